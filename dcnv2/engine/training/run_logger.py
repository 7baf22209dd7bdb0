# SPDX-License-Identifier: BSD-3-Clause
"""Records a run while it trains: progress bar, log.txt, CSV tables, TensorBoard."""

from __future__ import annotations

import contextlib
import json
import logging
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from dcnv2.data.whole_files import make_folder, write_table
from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.coco_eval import results_of_kind
from dcnv2.engine.evaluation.evaluate import Result
from dcnv2.engine.runtime.attempt import attempt
from dcnv2.engine.runtime.files import write_atomically
from dcnv2.engine.runtime.run_folder import describe
from dcnv2.engine.training.board_thread import quiet_board_thread
from dcnv2.engine.training.csv_rows import append_row, drop_rows_after, steps_of
from dcnv2.engine.training.early_log import EarlyLog
from dcnv2.engine.visualization.confusion import draw_confusion
from dcnv2.engine.visualization.draw import write_picture
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
        early: what was logged before, for the log file.

    Nothing here ends a run: what cannot be written is a warning.
    """

    def __init__(
        self, folder: Path, start: int, config: RunConfig, early: EarlyLog | None = None
    ) -> None:
        self.folder, self.start, self.config = folder, start, config
        self.early = early or EarlyLog()
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
        self._screen: logging.Handler
        if console.is_terminal:
            # The progress bar shows the metrics, so only warnings need a line.
            self._screen = RichHandler(logging.WARNING, console, show_path=False)
        else:
            self._screen = logging.StreamHandler()
        self._file: logging.Handler = logging.NullHandler()
        self._board: SummaryWriter | None = None
        self._quiet = contextlib.ExitStack()

    def __enter__(self) -> RunLogger:
        self._quiet.enter_context(quiet_board_thread())
        log.setLevel(logging.INFO)
        log.addHandler(self._screen)
        with attempt("log.txt"):
            self._file = LogFile(self.folder / "log.txt")
        log.addHandler(self._file)
        self.early.replay(self._file, self._screen)
        for name in ("metrics.csv", "eval.csv"):
            with attempt(name):
                drop_rows_after(self.folder / name, self.start)
        with attempt("tensorboard/"):
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.start + 1)
        with attempt("progress bar"):
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        with attempt("progress bar"):
            self._progress.stop()
        if self._board is not None:
            with attempt("tensorboard/"):
                self._board.close()
        self._quiet.close()
        if error is not None:
            log.error("%s: %s", type(error).__name__, error)
        for handler in (self._file, self._screen):
            log.removeHandler(handler)
            with contextlib.suppress(OSError):  # closing flushes, which fails on a full disk
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
        with attempt("metrics.csv"):
            append_row(self.folder / "metrics.csv", {"step": step, **values})
        scalars = {f"train/{key}": value for key, value in values.items()}
        for name, layer in (offsets or {}).items():
            scalars |= {f"offset_{key}/{name}": value for key, value in vars(layer).items()}
        self._add_scalars(scalars, step)
        status = " ".join(f"{key} {value:.4g}" for key, value in values.items())
        log.info("step %d/%d %s", step, self.steps, status)
        status = (
            f"loss {values.get('loss', float('nan')):.3f}, {values['images_per_s']:.1f} images/s, "
            f"{100 * values['data_share']:.0f}% waiting for data, {values['memory_MiB']:.0f} MiB"
        )
        with attempt("progress bar"):
            self._progress.update(self._task, completed=step, status=status)

    def _add_scalars(self, values: Mapping[str, float], step: int) -> None:
        board, self._board = self._board, None  # after an error its thread is dead
        if board is not None:
            with attempt("tensorboard/"):
                for key, value in values.items():
                    board.add_scalar(key, value, step)
                self._board = board

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
        try:
            return step in steps_of(self.folder / "eval.csv")
        except (OSError, ValueError):
            return False

    def results(self) -> pd.DataFrame:
        """Returns the rows of eval.csv; none if it cannot be read."""
        try:
            return pd.read_csv(self.folder / "eval.csv")
        except (OSError, ValueError):
            return pd.DataFrame({"step": []})

    def record_result(self, row: pd.DataFrame) -> None:
        """Records an evaluation in the log and in eval.csv.

        Args:
            row: one row of numbers, including `step`.
        """
        step, values = _split_row(row)
        shown = {k: v for k, v in values.items() if k.endswith(("_AP", "_AP50", "_mAP50", "loss"))}
        log.info("step %d: %s", step, " ".join(f"{k} {v:.4f}" for k, v in shown.items()))
        with attempt("eval.csv"):
            # Resuming a finished run evaluates its last step again: replace that row.
            drop_rows_after(self.folder / "eval.csv", step - 1)
            append_row(self.folder / "eval.csv", {"step": step, **values})

    def show_result(self, result: Result, pictures: Sequence[torch.Tensor]) -> None:
        """Writes tables, detections and pictures of an evaluation, and its TensorBoard curves.

        eval_classes.csv, curves.csv, detections_*.json and the pictures are overwritten: they are
        those of the newest evaluation.

        Args:
            result: its row includes `step`.
            pictures: uint8 [3, H, W], predictions on some images.
        """
        step, values = _split_row(result.row)
        self._add_scalars({f"val/{key}": value for key, value in values.items()}, step)
        with attempt("tables of the evaluation"):
            write_result(self.folder, result)
        for index, picture in enumerate(pictures):
            with attempt(f"pictures/prediction_{index}.png"):
                write_picture(self.folder / "pictures" / f"prediction_{index}.png", picture)
                if self._board is not None:
                    self._board.add_image(f"val/{index}", picture, step)
        with attempt("README.md"):
            write_atomically(self.folder / "README.md", describe(self.config, result.row))


class LogFile(logging.FileHandler):
    """log.txt; if it cannot be written, as on a full disk, one line on stderr says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Called by logging if a record could not be written."""
        if not self._failed:
            self._failed = True
            with contextlib.suppress(OSError):
                print(f"{self.baseFilename}: {sys.exc_info()[1]}", file=sys.stderr)


def _split_row(row: pd.DataFrame) -> tuple[int, dict[str, float]]:
    values = {str(key): value for key, value in row.iloc[0].items()}
    return int(values.pop("step")), values


def write_result(folder: Path, result: Result) -> None:
    """Writes tables, plots of precision and confusion, and detections in COCO's result format.

    Those of further validation sets are in folders with their names.

    Raises:
        OSError: a table or the detections cannot be written; a plot that fails is a warning.
    """
    make_folder(folder)
    write_table(folder / "eval_classes.csv", result.scores.per_class)
    write_table(folder / "curves.csv", result.scores.curves)
    for kind in ("bbox", "segm") if result.has_masks else ("bbox",):
        found = json.dumps(results_of_kind(result.detections, kind))
        write_atomically(folder / f"detections_{kind}.json", found)
    if result.errors is not None:
        write_table(folder / "confusion.csv", result.errors.confusion.reset_index())
        write_table(folder / "errors_classes.csv", result.errors.per_class)
        write_table(folder / "errors_images.csv", result.errors.per_image)
    with attempt("plots of precision"):
        (folder / "pictures").mkdir(exist_ok=True)
        if result.errors is not None:
            draw_confusion(result.errors.confusion, folder / "pictures" / "confusion.png")
        draw_curves(result.scores.curves, folder / "pictures" / "precision_recall.png")
        draw_sizes(result.scores.numbers, folder / "pictures" / "sizes.png")
    for name, other in result.others.items():
        write_result(folder / name, other)
