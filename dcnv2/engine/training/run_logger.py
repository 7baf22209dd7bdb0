# SPDX-License-Identifier: BSD-3-Clause
"""What a run leaves behind while it trains: progress bar, log.txt, CSV tables, TensorBoard."""

from __future__ import annotations

import csv
import io
import json
import logging
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter
from torchvision.io import write_png

from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.coco_eval import results_of_kind
from dcnv2.engine.evaluation.evaluate import Result
from dcnv2.engine.runtime.run_folder import describe, write_whole
from dcnv2.engine.visualization.eval_curves import draw_curves, draw_sizes
from dcnv2.models.offsets import OffsetStatistics

log = logging.getLogger("dcnv2")


class Meter:
    """Sums of values since the last row of metrics; they travel in checkpoints."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.sums: dict[str, float] = dict(state["sums"]) if state else {}
        self.counts: dict[str, int] = dict(state["counts"]) if state else {}

    def add(self, values: Mapping[str, float]) -> None:
        """Adds the values of one step."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def take(self) -> dict[str, float]:
        """Returns the means, but of `skipped` the sum, and starts anew."""
        values = {key: value / self.counts[key] for key, value in self.sums.items()}
        if "skipped" in values:
            values["skipped"] = self.sums["skipped"]
        self.sums, self.counts = {}, {}
        return values

    def state(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {"sums": self.sums, "counts": self.counts}


class RunLogger:
    """Writes the records of a run; a context manager.

    On resume, records after update `start` are dropped, so that the files read as if the run had
    never stopped.

    Args:
        folder: the run's folder.
        start: updates done before.
        config: the run.
    """

    def __init__(self, folder: Path, start: int, config: RunConfig) -> None:
        self.folder, self.start, self.config = folder, start, config
        self.steps = config.train.steps
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            folder.name, total=self.steps, completed=start, status=""
        )
        file = logging.FileHandler(folder / "log.txt")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        screen: logging.Handler
        if console.is_terminal:
            # Beside a bar, a line every few steps would only scroll by.
            screen = RichHandler(logging.WARNING, console, show_path=False)
        else:
            screen = logging.StreamHandler()
        self._handlers = (file, screen)

    def __enter__(self) -> RunLogger:
        log.setLevel(logging.INFO)
        for handler in self._handlers:
            log.addHandler(handler)
        for name in ("metrics.csv", "eval.csv"):
            forget_rows(self.folder / name, self.start)
        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.start + 1)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self._progress.stop()
        self._board.close()
        if error is not None:
            log.error("%s: %s", type(error).__name__, error)
        for handler in self._handlers:
            log.removeHandler(handler)
            handler.close()

    def row(
        self,
        step: int,
        values: Mapping[str, float],
        offsets: Mapping[str, OffsetStatistics] | None = None,
    ) -> None:
        """Records training metrics: a row of metrics.csv, TensorBoard, the log, the bar.

        Args:
            step: updates done.
            values: means since the last row; `data_ms` and `step_ms` among them.
            offsets: of each deformable layer at this step; the row has their mean and largest.
        """
        values = {**values, **self._pace(values)}
        layers = list((offsets or {}).values())
        if layers:
            values |= {
                "offset_mean": sum(layer.mean for layer in layers) / len(layers),
                "offset_max": max(layer.largest for layer in layers),
                "offset_outside": sum(layer.outside for layer in layers) / len(layers),
            }
        append_row(self.folder / "metrics.csv", {"step": step, **values})
        for key, value in values.items():
            self._board.add_scalar(f"train/{key}", value, step)
        for name, layer in (offsets or {}).items():
            for key, value in vars(layer).items():
                self._board.add_scalar(f"offset_{key}/{name}", value, step)
        status = " ".join(f"{key} {value:.4g}" for key, value in values.items())
        log.info("step %d/%d %s", step, self.steps, status)
        status = (
            f"loss {values.get('loss', float('nan')):.3f}, {values['images_per_s']:.1f} images/s, "
            f"{100 * values['data_share']:.0f}% waiting for data, {values['memory_MiB']:.0f} MiB"
        )
        self._progress.update(self._task, completed=step, status=status)

    def _pace(self, values: Mapping[str, float]) -> dict[str, float]:
        """Images a second over all ranks, the share of time spent waiting for data, peak memory."""
        total_ms = values["data_ms"] + values["step_ms"]
        if torch.cuda.is_initialized():
            peak_bytes = torch.cuda.max_memory_allocated()
        else:  # in KiB, but in bytes on macOS
            unit = 1 if sys.platform == "darwin" else 1024
            peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {
            "images_per_s": 1e3 * self.config.train.batch_size / max(total_ms, 1e-9),
            "data_share": values["data_ms"] / max(total_ms, 1e-9),
            "memory_MiB": peak_bytes / 2**20,
        }

    def has_result(self, step: int) -> bool:
        """Whether eval.csv has a row of that step."""
        path = self.folder / "eval.csv"
        return path.exists() and step in pd.read_csv(path)["step"].tolist()

    def result(self, result: Result, pictures: Sequence[torch.Tensor]) -> None:
        """Records an evaluation.

        A row of eval.csv; of the newest alone eval_classes.csv, curves.csv, detections_*.json and
        the pictures; TensorBoard and the log.

        Args:
            result: its row has `step`.
            pictures: uint8 [3, H, W], predictions on some images.
        """
        values = {str(key): value for key, value in result.row.iloc[0].items()}
        step = int(values.pop("step"))
        # The last step is evaluated again where a finished run is resumed: one row a step.
        forget_rows(self.folder / "eval.csv", step - 1)
        append_row(self.folder / "eval.csv", {"step": step, **values})
        write_result(self.folder, result)
        folder = self.folder / "pictures"
        for index, picture in enumerate(pictures):
            write_png(picture, str(folder / f"prediction_{index}.png"))
            self._board.add_image(f"val/{index}", picture, step)
        for key, value in values.items():
            self._board.add_scalar(f"val/{key}", value, step)
        write_whole(self.folder / "README.md", describe(self.config, result.row))
        shown = {k: v for k, v in values.items() if k.endswith(("_AP", "_AP50", "_mAP50"))}
        log.info("step %d: %s", step, " ".join(f"{k} {v:.4f}" for k, v in shown.items()))


def write_result(folder: Path, result: Result) -> None:
    """Writes tables, pictures of curves and sizes, and detections in COCO's JSON."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    result.scores.per_class.to_csv(folder / "eval_classes.csv", index=False)
    result.scores.curves.to_csv(folder / "curves.csv", index=False)
    for kind in ("bbox", "segm") if result.has_masks else ("bbox",):
        found = json.dumps(results_of_kind(result.detections, kind))
        write_whole(folder / f"detections_{kind}.json", found)
    draw_curves(result.scores.curves, folder / "pictures" / "precision_recall.png")
    draw_sizes(result.scores.numbers, folder / "pictures" / "sizes.png")


def append_row(path: Path, values: Mapping[str, float]) -> None:
    """Appends a row to a CSV file, in the order of its heading; a new column is added to all."""
    text = path.read_text() if path.exists() else ""
    columns = text.split("\n", 1)[0].split(",") if text else []
    fresh = [key for key in values if key not in columns]
    if fresh and columns:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        text = table.reindex(columns=[*columns, *fresh], fill_value="").to_csv(index=False)
        write_whole(path, text)
    columns += fresh
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        if not text:
            writer.writeheader()
        writer.writerow(values)


def forget_rows(path: Path, start: int) -> None:
    """Drops the rows of steps after `start`, and one that was not written to its end."""
    if not path.exists():
        return
    head, *rows = path.read_text().split("\n")[:-1] or [""]
    width = len(head.split(","))
    whole = [row for row in rows if len(row.split(",")) == width]
    kept = [row for row in whole if int(row.split(",")[0]) <= start]
    write_whole(path, "".join(f"{line}\n" for line in [head, *kept] if line))
