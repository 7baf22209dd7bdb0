# SPDX-License-Identifier: BSD-3-Clause
"""What a training does besides updating weights: metrics, checkpoints, evaluation, stopping.

`Trainer` calls its hooks in order, on every rank. Those of a user are subclasses of `Hook`, passed
to `train(config, hooks=[...])`. An error that a hook raises ends the run; the last finished update
is saved first. A hook that keeps values of its own has to restore them when a run is resumed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import Tensor

from dcnv2.engine.config.combinations import schedule_warnings
from dcnv2.engine.evaluation.evaluate import best_metric, evaluate_sets, warn_of_limits
from dcnv2.engine.inference.predict import prediction_sheet
from dcnv2.engine.runtime.attempt import attempt
from dcnv2.engine.runtime.signals import RunStoppedError
from dcnv2.models.offsets import OffsetMonitor

if TYPE_CHECKING:
    from dcnv2.engine.training.trainer import Trainer

log = logging.getLogger("dcnv2")

# Number of validation images whose predictions are drawn at each evaluation.
SHEET_IMAGES = 8
# Number of images without any object that is worth a warning.
ENOUGH_IMAGES = 64


class Hook:
    """Base class; every method does nothing."""

    def before_train(self, trainer: Trainer) -> None:
        """Called once, before the first batch is loaded."""

    def before_step(self, trainer: Trainer) -> None:
        """Called before each update, after its batch was loaded; `trainer.step` updates are done.

        The learning rate is set within the update, from the configuration.
        """

    def after_step(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """Called after each update, with its losses and times in ms."""

    def after_eval(self, trainer: Trainer, row: pd.DataFrame) -> None:
        """Called after each evaluation, with its row of eval.csv."""

    def after_train(self, trainer: Trainer) -> None:
        """Called once, after the last update."""


class LogMetrics(Hook):
    """Writes a row of metrics every `train.log_every` steps and after the last one."""

    def __init__(self, trainer: Trainer) -> None:
        self.offsets = OffsetMonitor(trainer.model)

    def before_train(self, trainer: Trainer) -> None:
        if not trainer.comm.is_main:
            return
        options, comm = trainer.config.train, trainer.comm
        log.info("%d rank(s), rank 0 on %s: %r", comm.world_size, comm.device, trainer.train_set)
        for name, dataset in trainer.val_sets.items():
            log.info("validation %s: %r", name, dataset)
        share = options.batch_size // (comm.world_size * options.accumulate)
        log.info(
            "%d images a step: %d rank(s) x %d micro-batch(es) x %d",
            *(options.batch_size, comm.world_size, options.accumulate, share),
        )
        log.info(trainer.train_step.lr_text)
        for text in schedule_warnings(trainer.config):
            log.warning("%s", text)

    def before_step(self, trainer: Trainer) -> None:
        if self._due(trainer, trainer.step + 1):
            self.offsets.watch()

    def after_step(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        trainer.meter.add(values)
        if self._due(trainer, trainer.step):
            means = trainer.meter.take()
            with attempt("row of metrics"):
                offsets = self.offsets.take()
                if trainer.logger is not None:
                    trainer.logger.log_metrics(trainer.step, means, offsets)

    def _due(self, trainer: Trainer, step: int) -> bool:
        options = trainer.config.train
        return step % options.log_every == 0 or step == options.steps


class WarnWithoutObjects(Hook):
    """Warns once if no image so far had an object, as if `data.augment` crops all away."""

    def __init__(self) -> None:
        self.warned = False

    def after_step(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        train_step = trainer.train_step
        enough = train_step.images >= ENOUGH_IMAGES or trainer.is_done
        if enough and not train_step.objects and not self.warned and trainer.comm.is_main:
            self.warned = True
            log.warning(
                "none of the %d images since step %d had an object: check data.augment, which may "
                "crop all of them away",
                *(train_step.images, trainer.started_at),
            )


class SaveCheckpoint(Hook):
    """Saves every `train.checkpoint_every` steps, and before an evaluation, a stop or the end.

    A checkpoint that cannot be written, as on a full disk, is a warning unless the run ends there.
    """

    def after_step(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        regular = trainer.step % trainer.config.train.checkpoint_every == 0
        ends = trainer.is_done or trainer.stop_received
        if regular or ends or trainer.evaluation_due:
            trainer.save()


class Evaluate(Hook):
    """Evaluates every `train.eval_every` steps and at the end, and keeps the best checkpoint."""

    def before_train(self, trainer: Trainer) -> None:
        if trainer.comm.is_main and trainer.model.roi_heads is not None:
            with attempt("check of the limits on detections"):
                for dataset in trainer.val_sets.values():
                    warn_of_limits(dataset, trainer.config)
        # A signal may have stopped the run in the evaluation of the step that it resumes from.
        if trainer.step < trainer.config.train.steps and trainer.evaluation_due:
            logger = trainer.logger
            if not trainer.comm.broadcast(logger is not None and logger.has_result(trainer.step)):
                self.evaluate(trainer)

    def after_step(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        ends = trainer.is_done or trainer.stop_received or trainer.load_failed
        if trainer.evaluation_due and not ends:
            self.evaluate(trainer)

    def after_train(self, trainer: Trainer) -> None:
        if trainer.result is None or trainer.result["step"].item() != trainer.step:
            self.evaluate(trainer)

    def evaluate(self, trainer: Trainer) -> None:
        """Evaluates this step on all ranks; every rank gets the row of results."""
        average = trainer.train_step.average
        model: Any = trainer.model if average is None else average.module
        config, comm = trainer.config, trainer.comm

        def check_signals() -> None:
            if trainer.signals.received is not None:
                raise RunStoppedError(
                    f"stopped while evaluating step {trainer.step}, which is saved: "
                    "continue with --resume"
                )

        result = evaluate_sets(model, trainer.val_sets, config, comm, check_signals)
        row = None
        if result is not None:
            row = result.row
            row.insert(0, "step", trainer.step)
            assert trainer.logger is not None  # only rank 0 has results, and it has a logger
            trainer.logger.record_result(row)
            metric = best_metric(row)
            trainer.checkpointer.mark_best(metric, float(row[metric].item()))
            pictures: Sequence[Tensor] = []
            with attempt("pictures of predictions"):
                dataset = trainer.val_set
                indices = range(min(SHEET_IMAGES, len(dataset)))
                pictures, _ = prediction_sheet(model, dataset, indices, config, comm.device)
            trainer.logger.show_result(result, pictures)
        trainer.result = comm.broadcast(row)
        for hook in trainer.hooks:
            hook.after_eval(trainer, trainer.result)


class StopEarly(Hook):
    """Ends the run after `train.patience` evaluations in a row without a better result.

    A resumed run counts the evaluations in eval.csv.
    """

    def __init__(self) -> None:
        self.values: dict[int, float] = {}

    def before_train(self, trainer: Trainer) -> None:
        if trainer.config.train.patience is None:
            return
        values = {}
        if trainer.logger is not None:
            rows = trainer.logger.results()
            if len(rows):
                values = dict(zip(rows["step"], rows[best_metric(rows)], strict=True))
        self.values = trainer.comm.broadcast(values)
        self._stop_if_exhausted(trainer)

    def after_eval(self, trainer: Trainer, row: pd.DataFrame) -> None:
        metric = best_metric(row)
        self.values[trainer.step] = float(row[metric].item())
        self._stop_if_exhausted(trainer)

    def _stop_if_exhausted(self, trainer: Trainer) -> None:
        patience = trainer.config.train.patience
        if patience is None or trainer.is_done:
            return
        best, best_step, since = -math.inf, 0, 0
        for step, value in sorted(self.values.items()):
            if value > best:  # NaN is not
                best, best_step, since = value, step, 0
            else:
                since += 1
        if since >= patience:
            what = f"exceeded the {best:.4f} of step {best_step}" if best >= 0 else "had a result"
            trainer.stop_reason = (
                f"ended early after step {trainer.step} of {trainer.config.train.steps}: none of "
                f"the last {since} evaluations {what} (train.patience)"
            )
            log.warning(trainer.stop_reason)


class StopOnSignal(Hook):
    """Ends the run after the step in which a rank received a signal."""

    def after_step(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        if trainer.stop_received and not trainer.is_done:
            # torchrun kills all ranks soon after the first one ends: wait until rank 0 has saved.
            error = trainer.comm.broadcast(trainer.save_error)
            if error is not None:
                raise error
            raise RunStoppedError(
                f"stopped after step {trainer.step} of {trainer.config.train.steps}, which is "
                "saved: continue with --resume"
            )
