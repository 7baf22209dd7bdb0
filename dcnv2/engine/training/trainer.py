# SPDX-License-Identifier: BSD-3-Clause
"""The training loop."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pandas as pd

from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.whole_files import make_folder
from dcnv2.engine.config import RunConfig
from dcnv2.engine.config.epochs import in_steps
from dcnv2.engine.evaluation.evaluate import check_categories, has_masks
from dcnv2.engine.runtime.attempt import attempt
from dcnv2.engine.runtime.class_weights import set_class_weights
from dcnv2.engine.runtime.datasets import open_train, open_val_sets, steps_per_epoch, train_batches
from dcnv2.engine.runtime.device import pick_device
from dcnv2.engine.runtime.distributed import Communicator, init_distributed
from dcnv2.engine.runtime.rank_flags import any_rank
from dcnv2.engine.runtime.run_folder import begin_folder
from dcnv2.engine.runtime.run_lock import lock_folder
from dcnv2.engine.runtime.signals import RunStoppedError, StopSignals
from dcnv2.engine.training.checkpointer import Checkpointer, check_unchanged, choose_checkpoint
from dcnv2.engine.training.early_log import EarlyLog
from dcnv2.engine.training.hooks import (
    Evaluate,
    Hook,
    LogMetrics,
    SaveCheckpoint,
    StopEarly,
    StopOnSignal,
    WarnWithoutObjects,
)
from dcnv2.engine.training.meter import Meter
from dcnv2.engine.training.nonfinite import NonFiniteLossError
from dcnv2.engine.training.run_logger import RunLogger
from dcnv2.engine.training.train_step import TrainStep
from dcnv2.models.detector import Detector

log = logging.getLogger("dcnv2")


class Trainer:
    """Trains a detector as its configuration says.

    Args:
        config: the run.
        resume: continue from the newest checkpoint in the run's folder; `auto` starts a new run if
            there is none.
        comm: this process among those that train together.
        hooks: further hooks, called after those that evaluate.

    Attributes:
        config: the run, with options in epochs converted to steps.
        train_step: model and optimiser.
        checkpointer: saves and restores the training.
        logger: writes the run's files while `run` is active, on rank 0.
        hooks: what happens around each step, in this order.
        stop_received, load_failed: whether any rank received a signal, or could not load its next
            batch, until this step.
        signals: the signal that this rank received, if any.
        save_error: why the newest checkpoint could not be written, None if it was.
        stop_reason: why the run ends before its last step, None if it does not.
        result: row of the newest evaluation.

    Raises:
        FileExistsError: the folder holds checkpoints and `resume` is false.
        FileNotFoundError: `resume` is true and there is no checkpoint.
        ValueError: the categories of the splits, the model or the checkpoint differ.
    """

    def __init__(
        self,
        config: RunConfig,
        resume: bool | Literal["auto"] = False,
        comm: Communicator | None = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.config = config
        self.comm = comm or Communicator(pick_device(config.device))
        self.early_log = EarlyLog()
        with self.early_log if self.comm.is_main else contextlib.nullcontext():
            checkpoint = choose_checkpoint(config, resume, self.comm)
            masks = has_masks(config.model)
            self.train_set = open_train(config.data, masks)
            self.val_sets = open_val_sets(config.data, masks)
            classes = self.train_set.names
            check_categories(classes, config.model.num_classes)
            for dataset in self.val_sets.values():
                check_categories(dataset.names, config.model.num_classes, classes)
            epoch = steps_per_epoch(self.train_set, config)
            config = self.config = in_steps(config, epoch)
            log.info("%d step(s) an epoch, %g epoch(s)", epoch, config.train.steps / epoch)
            self.train_step = TrainStep(config, self.comm, pretrained=checkpoint is None)
            for model in self.train_step.models():
                set_class_weights(model, classes, config.train.class_weights)
            self.meter = Meter()
            ids = self.train_set.category_ids
            self.checkpointer = Checkpointer(config, self.train_step, self.meter, classes, ids)
            if checkpoint is not None:
                self.checkpointer.load(checkpoint)
                log.info("continuing from %s", checkpoint)
        self.started_at = self.step
        self.save_error: OSError | None = None
        self.logger: RunLogger | None = None
        self.hooks: list[Hook] = [
            LogMetrics(self),
            WarnWithoutObjects(),
            SaveCheckpoint(),
            StopEarly(),
            Evaluate(),
            *hooks,
            StopOnSignal(),
        ]
        self.signals = StopSignals()
        self.stop_received = self.load_failed = False
        self.stop_reason: str | None = None
        self.result: pd.DataFrame | None = None

    @property
    def val_set(self) -> DetectionDataset:
        """The validation set that ranks checkpoints, the first."""
        return next(iter(self.val_sets.values()))

    @property
    def model(self) -> Detector:
        """The detector."""
        return self.train_step.model

    @property
    def step(self) -> int:
        """Number of updates done."""
        return self.train_step.step

    @property
    def is_done(self) -> bool:
        """Whether no update follows."""
        return self.stop_reason is not None or self.step >= self.config.train.steps

    @property
    def evaluation_due(self) -> bool:
        """Whether this step is one of every `train.eval_every`."""
        every = self.config.train.eval_every
        return bool(every and self.step and self.step % every == 0)

    def run(self) -> pd.DataFrame:
        """Trains to the last step, evaluates, and returns the row of results.

        Raises:
            NonFiniteLossError: see `TrainStep.update`.
            RunStoppedError: a signal asked to stop; a checkpoint of the last update was saved.
            RunLockedError: another process trains in this folder.
            Exception: whatever else ended the run; the last finished update was saved before.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.signals)
            self._open_folder(stack)
            try:
                for hook in self.hooks:
                    hook.before_train(self)
                self.train_step.ddp_model.train()
                self._train()
                for hook in self.hooks:
                    hook.after_train(self)
            except RunStoppedError:
                raise
            except Exception:
                self._save_after_failure()
                raise
            if self.save_error is not None:
                self.checkpointer.save()
        assert self.result is not None
        return self.result

    def save(self) -> None:
        """Writes a checkpoint; a failure is a warning, kept in `save_error`.

        Raises:
            NonFiniteLossError: of the last update, which is not saved.
        """
        self.train_step.settle()
        self.save_error = None
        try:
            with self.signals.shield():
                self.checkpointer.save()
        except OSError as error:
            log.warning("%s; the next checkpoint tries again", error)
            self.save_error = error

    def _open_folder(self, stack: contextlib.ExitStack) -> None:
        """Locks the run's folder and opens its records, on rank 0; all ranks raise its errors."""
        error: Exception | None = None
        if self.comm.is_main:
            folder = self.config.folder
            try:
                make_folder(folder)
                stack.enter_context(lock_folder(folder))
                check_unchanged(self.config, self.step)
                begin_folder(self.config)
                self.logger = stack.enter_context(
                    RunLogger(folder, self.step, self.config, self.early_log)
                )
            except (OSError, ValueError) as failure:
                error = failure
        error = self.comm.broadcast(error)
        if error is not None:
            raise error

    def _save_after_failure(self) -> None:
        """Saves the last finished update, if nothing else did, and reports what can be resumed."""
        with contextlib.suppress(NonFiniteLossError):
            self.train_step.settle()
        if not self.comm.is_main or self.step == self.started_at:
            return
        if not self.train_step.consistent:
            log.error("failed within update %d: it cannot be saved", self.step + 1)
            return
        with attempt(f"checkpoint of step {self.step}"):
            with self.signals.shield():
                self.checkpointer.save(keep_all=True)
            log.error(
                "step %d of %d is saved: remove the cause, and continue with --resume",
                self.step,
                self.config.train.steps,
            )

    def _train(self) -> None:
        if self.is_done:
            return
        batches = iter(train_batches(self.train_set, self.config, self.step, self.comm))
        batch, data_ms, failure = _load(batches)
        self._agree(failure)
        self._raise_if_failed(failure)
        while not self.is_done:
            for hook in self.hooks:
                hook.before_step(self)
            began = time.perf_counter()
            values = self.train_step.update(*batch)
            step_ms = 1e3 * (time.perf_counter() - began)
            values.add(data_ms=data_ms, step_ms=step_ms)
            # The next batch is loaded here so that one rank's failure can be saved by all.
            if not self.is_done and self.signals.received is None:
                batch, data_ms, failure = _load(batches)
            self._agree(failure)
            for hook in self.hooks:
                hook.after_step(self, values)
            self._raise_if_failed(failure)

    def _agree(self, failure: Exception | None) -> None:
        """Exchanges with the other ranks whether one has to stop, or has no batch."""
        flags = [self.signals.received is not None, failure is not None]
        self.stop_received, self.load_failed = any_rank(flags, self.comm)

    def _raise_if_failed(self, failure: Exception | None) -> None:
        if self.load_failed:
            raise failure or RunFailedError(
                f"another rank could not load its batch of step {self.step + 1}"
            )


class RunFailedError(RuntimeError):
    """Another rank failed, and this one ends with it."""


def _load(batches: Iterator[Any]) -> tuple[Any, float, Exception | None]:
    """Returns the next batch, the time that it took in ms, and the error if there is none."""
    began = time.perf_counter()
    try:
        batch = next(batches)
    except Exception as error:
        return None, 0.0, error
    return batch, 1e3 * (time.perf_counter() - began), None


def train(
    config: RunConfig, resume: bool | Literal["auto"] = False, hooks: Sequence[Hook] = ()
) -> pd.DataFrame | None:
    """Trains as configured, together with the other ranks if torchrun started some.

    Args:
        config: the run.
        resume: see `Trainer`, as for the hooks.
        hooks: called around each step.

    Returns:
        The final row of results on rank 0, None on the others. See `Trainer` for errors.
    """
    with init_distributed(config.device, config.train.timeout_minutes) as comm:
        row = Trainer(config, resume, comm, hooks).run()
        return row if comm.is_main else None
