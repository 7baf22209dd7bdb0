# SPDX-License-Identifier: BSD-3-Clause
"""The training loop."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.evaluate import best_metric, check_categories, evaluate, has_masks
from dcnv2.engine.inference.predict import prediction_sheet
from dcnv2.engine.runtime.checkpoint import (
    AVERAGE,
    last_checkpoint,
    load_meta,
    load_model,
    load_state,
    mark_best,
    prune,
    save_checkpoint,
)
from dcnv2.engine.runtime.datasets import open_train, open_val, train_batches
from dcnv2.engine.runtime.device import pick_device
from dcnv2.engine.runtime.distributed import Communicator, init_distributed
from dcnv2.engine.runtime.run_folder import begin_folder
from dcnv2.engine.runtime.signals import RunStoppedError, StopSignals
from dcnv2.engine.training.run_logger import Meter, RunLogger
from dcnv2.engine.training.train_step import TrainStep

log = logging.getLogger("dcnv2")

# Pictures of each evaluation that TensorBoard shows.
SHEET_IMAGES = 8


class Trainer(TrainStep):
    """A training step with the data of its run, its checkpoints and its records.

    Args:
        config: the run.
        resume: go on from the newest checkpoint in the run's folder; `auto` begins if there is
            none.
        comm: this process among those that train together.

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
    ) -> None:
        comm = comm or Communicator(pick_device(config.device))
        checkpoint = _choose_checkpoint(config, resume, comm)
        masks = has_masks(config.model)
        self.train_set = open_train(config.data, masks)
        self.val_set = open_val(config.data, masks)
        self.names = self.train_set.names
        check_categories(self.names, config.model.num_classes)
        check_categories(self.val_set.names, config.model.num_classes, self.names)
        self.meter = Meter()
        super().__init__(config, comm, pretrained=checkpoint is None)
        if checkpoint is not None:
            self._restore(checkpoint)

    def run(self) -> pd.DataFrame:
        """Trains up to the last step, evaluates, and returns the row of results.

        Raises:
            NonFiniteLossError: see `update`.
            RunStoppedError: SIGTERM or SIGINT came; a checkpoint of the last update is there.
        """
        config = self.config.train
        with contextlib.ExitStack() as stack:
            self.signals = stack.enter_context(StopSignals())
            self.journal: RunLogger | None = None
            if self.comm.is_main:
                begin_folder(self.config)
                self.journal = stack.enter_context(RunLogger(self.folder, self.step, self.config))
                self._introduce()
            if self.step < config.steps and self._evaluation_due():
                self._evaluate(again=False)
            self.wrapped.train()
            began = time.perf_counter()
            for images, targets in train_batches(self.train_set, self.config, self.step, self.comm):
                loaded = time.perf_counter()
                if self._row_follows(self.step + 1):
                    self.offsets.watch()
                terms = self.update(images, targets)
                ended = time.perf_counter()
                times = {"data_ms": 1e3 * (loaded - began), "step_ms": 1e3 * (ended - loaded)}
                self.meter.add({**terms, **times})
                self._after_update()
                began = time.perf_counter()
            row = self._evaluate()
        assert row is not None  # evaluated again, whatever is known
        return row

    def _introduce(self) -> None:
        config = self.config.train
        log.info("%d rank(s), here %s: %r", self.comm.world_size, self.device, self.train_set)
        log.info("validation: %r", self.val_set)
        share = config.batch_size // (self.comm.world_size * config.accumulate)
        log.info(
            "%d images a step: %d rank(s) x %d micro-batch(es) x %d",
            *(config.batch_size, self.comm.world_size, config.accumulate, share),
        )
        log.info(self.lr_text)

    def _row_follows(self, step: int) -> bool:
        return step % self.config.train.log_every == 0 or step == self.config.train.steps

    def _evaluation_due(self) -> bool:
        every = self.config.train.eval_every
        return bool(every and self.step and self.step % every == 0)

    def _after_update(self) -> None:
        config, last = self.config.train, self.step == self.config.train.steps
        if self._row_follows(self.step):
            row, offsets = self.meter.take(), self.offsets.take()
            if self.journal:
                self.journal.row(self.step, row, offsets)
        due = self._evaluation_due() and not last
        stop = self.stop_asked and not last
        if self.step % config.checkpoint_every == 0 or last or due or stop:
            self.save()
        if due and not stop:
            self._evaluate()
        if stop:
            # torchrun ends all ranks soon after the first: none may end before this is saved.
            self.comm.broadcast(None)
            raise RunStoppedError(
                f"stopped after step {self.step} of {config.steps}, which is saved: "
                "--resume goes on from there"
            )

    def save(self) -> Path | None:
        """Writes a checkpoint of this step; returns where, on the first rank."""
        if not self.comm.is_main:
            return None
        state = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        return save_checkpoint(
            self.folder / "checkpoints",
            self.step,
            self.model,
            state,
            {"classes": self.names, "meter": self.meter.state()},
            self.config.train.keep_checkpoints,
            None if self.average is None else self.average.module.state_dict(),
        )

    def _restore(self, checkpoint: Path) -> None:
        meta = load_meta(checkpoint)
        check_categories(self.names, self.config.model.num_classes, meta["classes"])
        load_model(checkpoint, self.model)
        state = load_state(checkpoint)
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.meter = meta["step"], Meter(meta["meter"])
        if self.average is not None:
            load_model(checkpoint, self.average.module, AVERAGE)
            self.average.n_averaged.fill_(self.step)

    def _evaluate(self, again: bool = True) -> pd.DataFrame | None:
        """Evaluates this step on all ranks; unless `again`, only if there is no result yet."""
        known = self.comm.broadcast(bool(self.journal and self.journal.has_result(self.step)))
        if known and not again:
            return None
        model: Any = self.model if self.average is None else self.average.module
        result = evaluate(model, self.val_set, self.config, self.comm, self._check_signals)
        row = None
        if result is not None:
            result.row.insert(0, "step", self.step)
            row = result.row
            indices = range(min(SHEET_IMAGES, len(self.val_set)))
            pictures, _ = prediction_sheet(model, self.val_set, indices, self.config, self.device)
            metric = best_metric(row)
            folder = self.folder / "checkpoints"
            mark_best(folder, self.step, metric, float(row[metric].item()))
            prune(folder, self.config.train.keep_checkpoints)
            assert self.journal is not None  # the first rank, which alone has results, keeps it
            self.journal.result(result, pictures)
        return self.comm.broadcast(row)

    def _check_signals(self) -> None:
        if self.signals.received is not None:
            raise RunStoppedError(
                f"stopped while evaluating step {self.step}, which is saved: "
                "--resume goes on from there"
            )


def _choose_checkpoint(config: RunConfig, resume: bool | str, comm: Communicator) -> Path | None:
    folder = config.folder / "checkpoints"
    found = comm.broadcast(last_checkpoint(folder) if comm.is_main else None)
    if found is not None and not resume:
        raise FileExistsError(f"{found} is there: resume that run, or give another --name=...")
    if found is None and resume is True:
        raise FileNotFoundError(f"{config.folder} holds no checkpoint to resume from")
    return found


def train(config: RunConfig, resume: bool | Literal["auto"] = False) -> pd.DataFrame | None:
    """Trains as configured, with the other ranks where torchrun started some.

    Returns:
        The final row of results, None on other ranks than the first. See `Trainer` for errors.
    """
    with init_distributed(config.device, config.train.timeout_minutes) as comm:
        row = Trainer(config, resume, comm).run()
        return row if comm.is_main else None
