# SPDX-License-Identifier: BSD-3-Clause
"""Records a run while it trains: progress bar, log.txt, CSV tables, TensorBoard."""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter
from torchvision.io import write_png

from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.coco_eval import results_of_kind
from dcnv2.engine.evaluation.evaluate import Result
from dcnv2.engine.runtime.files import write_atomically
from dcnv2.engine.runtime.run_folder import describe
from dcnv2.engine.training.csv_rows import append_row, drop_rows_after, steps_of
from dcnv2.engine.visualization.eval_curves import draw_curves, draw_sizes
from dcnv2.models.offsets import OffsetStatistics

log = logging.getLogger("dcnv2")


class RunLogger:
    """Writes the records of a run; a context manager.

    A resumed run removes the records after update `start`, so that the files are the same as those
    of an uninterrupted run.

    Args:
        folder: the run's folder.
        start: number of updates done before.
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
            # The progress bar shows the metrics, so only warnings need a line.
            screen = RichHandler(logging.WARNING, console, show_path=False)
        else:
            screen = logging.StreamHandler()
        self._handlers = (file, screen)

    def __enter__(self) -> RunLogger:
        log.setLevel(logging.INFO)
        for handler in self._handlers:
            log.addHandler(handler)
        for name in ("metrics.csv", "eval.csv"):
            drop_rows_after(self.folder / name, self.start)
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

    def log_metrics(
        self,
        step: int,
        values: Mapping[str, float],
        offsets: Mapping[str, OffsetStatistics] | None = None,
    ) -> None:
        """Records training metrics in metrics.csv, TensorBoard, the log and the progress bar.

        Args:
            step: number of updates done.
            values: means since the last row, including `data_ms` and `step_ms`.
            offsets: statistics of each deformable layer at this step; the row has their mean and
                maximum over layers.
        """
        values = {**values, **self._throughput(values)}
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

    def _throughput(self, values: Mapping[str, float]) -> dict[str, float]:
        """Images per second over all ranks, share of time spent waiting for data, peak memory."""
        total_ms = values["data_ms"] + values["step_ms"]
        if torch.cuda.is_initialized():
            peak_bytes = torch.cuda.max_memory_allocated()
        else:  # ru_maxrss is in KiB, on macOS in bytes
            unit = 1 if sys.platform == "darwin" else 1024
            peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {
            "images_per_s": 1e3 * self.config.train.batch_size / max(total_ms, 1e-9),
            "data_share": values["data_ms"] / max(total_ms, 1e-9),
            "memory_MiB": peak_bytes / 2**20,
        }

    def has_result(self, step: int) -> bool:
        """Whether eval.csv has a row for this step."""
        return step in steps_of(self.folder / "eval.csv")

    def log_result(self, result: Result, pictures: Sequence[torch.Tensor]) -> None:
        """Records an evaluation in eval.csv, TensorBoard and the log.

        eval_classes.csv, curves.csv, detections_*.json and the pictures are overwritten: they are
        those of the newest evaluation.

        Args:
            result: its row includes `step`.
            pictures: uint8 [3, H, W], predictions on some images.
        """
        values = {str(key): value for key, value in result.row.iloc[0].items()}
        step = int(values.pop("step"))
        # Resuming a finished run evaluates its last step again: replace that row.
        drop_rows_after(self.folder / "eval.csv", step - 1)
        append_row(self.folder / "eval.csv", {"step": step, **values})
        write_result(self.folder, result)
        folder = self.folder / "pictures"
        for index, picture in enumerate(pictures):
            write_png(picture, str(folder / f"prediction_{index}.png"))
            self._board.add_image(f"val/{index}", picture, step)
        for key, value in values.items():
            self._board.add_scalar(f"val/{key}", value, step)
        write_atomically(self.folder / "README.md", describe(self.config, result.row))
        shown = {k: v for k, v in values.items() if k.endswith(("_AP", "_AP50", "_mAP50"))}
        log.info("step %d: %s", step, " ".join(f"{k} {v:.4f}" for k, v in shown.items()))


def write_result(folder: Path, result: Result) -> None:
    """Writes tables, plots of precision, and detections in COCO's result format."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    result.scores.per_class.to_csv(folder / "eval_classes.csv", index=False)
    result.scores.curves.to_csv(folder / "curves.csv", index=False)
    for kind in ("bbox", "segm") if result.has_masks else ("bbox",):
        found = json.dumps(results_of_kind(result.detections, kind))
        write_atomically(folder / f"detections_{kind}.json", found)
    draw_curves(result.scores.curves, folder / "pictures" / "precision_recall.png")
    draw_sizes(result.scores.numbers, folder / "pictures" / "sizes.png")
