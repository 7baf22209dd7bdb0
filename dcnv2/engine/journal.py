# SPDX-License-Identifier: BSD-3-Clause
"""What a run leaves behind while it trains: progress bar, log.txt, CSV tables, TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from dcnv2.models.offsets import OffsetStatistics

log = logging.getLogger("dcnv2")


class Journal:
    """Writes the records of a run; a context manager.

    On resume, records after update `start` are dropped, so that the files read as if the run had
    never stopped.

    Args:
        folder: the run's folder.
        start: updates done before.
        steps: updates in all.
    """

    def __init__(self, folder: Path, start: int, steps: int) -> None:
        self.folder, self.start, self.steps = folder, start, steps
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
        self._task = self._progress.add_task(folder.name, total=steps, completed=start, status="")
        file = logging.FileHandler(folder / "log.txt")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        if console.is_terminal:
            # Beside a bar, a line every few steps would only scroll by.
            screen = RichHandler(logging.WARNING, console, show_path=False)
        else:
            screen = logging.StreamHandler()
        self._handlers = (file, screen)

    def __enter__(self) -> Journal:
        log.setLevel(logging.INFO)
        for handler in self._handlers:
            log.addHandler(handler)
        for name in ("metrics.csv", "eval.csv"):
            self._forget(self.folder / name)
        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.start + 1)
        self._progress.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._progress.stop()
        self._board.close()
        if error is not None:
            log.error("stopped: %s: %s", kind.__name__, error)
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
            values: means since the last row; `loss` among them.
            offsets: of each deformable layer at this step; the row has their mean and largest.
        """
        layers = list((offsets or {}).values())
        if layers:
            values = {
                **values,
                "offset_mean": sum(layer.mean for layer in layers) / len(layers),
                "offset_max": max(layer.largest for layer in layers),
                "offset_outside": sum(layer.outside for layer in layers) / len(layers),
            }
        self._append("metrics.csv", pd.DataFrame([{"step": step, **values}]))
        for key, value in values.items():
            self._board.add_scalar(f"train/{key}", value, step)
        for name, layer in (offsets or {}).items():
            for key, value in vars(layer).items():
                self._board.add_scalar(f"offset_{key}/{name}", value, step)
        status = " ".join(f"{key} {value:.4g}" for key, value in values.items())
        log.info("step %d/%d %s", step, self.steps, status)
        self._progress.update(self._task, completed=step, status=f"loss {values['loss']:.3f}")

    def result(
        self, row: pd.DataFrame, per_class: pd.DataFrame, pictures: Sequence[torch.Tensor]
    ) -> None:
        """Records an evaluation: eval.csv, eval_classes.csv (of the newest), TensorBoard, the log.

        Args:
            row: one row with `step` and COCO's numbers.
            per_class: a row a class and kind.
            pictures: uint8 [3, H, W], predictions on some images.
        """
        self._append("eval.csv", row)
        per_class.to_csv(self.folder / "eval_classes.csv", index=False)
        values = row.iloc[0].to_dict()
        step = int(values.pop("step"))
        for key, value in values.items():
            self._board.add_scalar(f"val/{key}", value, step)
        for index, picture in enumerate(pictures):
            self._board.add_image(f"val/{index}", picture, step)
        shown = {key: value for key, value in values.items() if key.endswith(("_AP", "_AP50"))}
        log.info("step %d: %s", step, " ".join(f"{k} {v:.4f}" for k, v in shown.items()))

    def _append(self, name: str, rows: pd.DataFrame) -> None:
        path = self.folder / name
        rows.to_csv(path, mode="a", index=False, header=not path.exists())

    def _forget(self, path: Path) -> None:
        """Drops the rows of steps after `start`."""
        if path.exists():
            rows = pd.read_csv(path, dtype=str, keep_default_na=False)  # kept to the letter
            rows[rows["step"].astype(int) <= self.start].to_csv(path, index=False)
