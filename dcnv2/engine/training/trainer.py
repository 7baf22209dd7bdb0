# SPDX-License-Identifier: BSD-3-Clause
"""The training loop."""

from __future__ import annotations

import contextlib
import time
from typing import Literal

import pandas as pd

from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.evaluate import check_categories, has_masks
from dcnv2.engine.runtime.datasets import open_train, open_val, train_batches
from dcnv2.engine.runtime.device import pick_device
from dcnv2.engine.runtime.distributed import Communicator, init_distributed
from dcnv2.engine.runtime.rank_flags import any_rank
from dcnv2.engine.runtime.run_folder import begin_folder
from dcnv2.engine.runtime.signals import StopSignals
from dcnv2.engine.training.checkpointer import Checkpointer, choose_checkpoint
from dcnv2.engine.training.hooks import Evaluate, Hook, LogMetrics, SaveCheckpoint, StopOnSignal
from dcnv2.engine.training.meter import Meter
from dcnv2.engine.training.run_logger import RunLogger
from dcnv2.engine.training.train_step import TrainStep
from dcnv2.models.detector import Detector


class Trainer:
    """Trains a detector as its configuration says.

    Args:
        config: the run.
        resume: continue from the newest checkpoint in the run's folder; `auto` starts a new run if
            there is none.
        comm: this process among those that train together.

    Attributes:
        train_step: model and optimiser.
        checkpointer: saves and restores the training.
        logger: writes the run's files while `run` is active, on rank 0.
        hooks: what happens around each step, in this order.
        flags: of all ranks, after the last step.
        signals: the signal that this rank received, if any.
        result: row of the final evaluation, after `run`.

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
        self.config = config
        self.comm = comm or Communicator(pick_device(config.device))
        checkpoint = choose_checkpoint(config, resume, self.comm)
        masks = has_masks(config.model)
        self.train_set = open_train(config.data, masks)
        self.val_set = open_val(config.data, masks)
        classes = self.train_set.names
        check_categories(classes, config.model.num_classes)
        check_categories(self.val_set.names, config.model.num_classes, classes)
        self.train_step = TrainStep(config, self.comm, pretrained=checkpoint is None)
        self.meter = Meter()
        ids = self.train_set.category_ids
        self.checkpointer = Checkpointer(config, self.train_step, self.meter, classes, ids)
        if checkpoint is not None:
            self.checkpointer.load(checkpoint)
        self.logger: RunLogger | None = None
        self.hooks: list[Hook] = [
            LogMetrics(self),
            SaveCheckpoint(),
            Evaluate(),
            StopOnSignal(),
        ]
        self.signals = StopSignals()
        self.stop_received = False  # by any rank, until this step
        self.result: pd.DataFrame | None = None

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
        """Whether the last update was done."""
        return self.step == self.config.train.steps

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
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.signals)
            if self.comm.is_main:
                begin_folder(self.config)
                self.logger = stack.enter_context(
                    RunLogger(self.config.folder, self.step, self.config)
                )
            for hook in self.hooks:
                hook.before_train(self)
            self.train_step.ddp_model.train()
            self._train()
            for hook in self.hooks:
                hook.after_train(self)
        assert self.result is not None
        return self.result

    def _train(self) -> None:
        began = time.perf_counter()
        for batch in train_batches(self.train_set, self.config, self.step, self.comm):
            loaded = time.perf_counter()
            for hook in self.hooks:
                hook.before_step(self)
            values = self.train_step.update(*batch)
            ended = time.perf_counter()
            values |= {"data_ms": 1e3 * (loaded - began), "step_ms": 1e3 * (ended - loaded)}
            self.stop_received = any_rank(self.signals.received is not None, self.comm)
            for hook in self.hooks:
                hook.after_step(self, values)
            began = time.perf_counter()


def train(config: RunConfig, resume: bool | Literal["auto"] = False) -> pd.DataFrame | None:
    """Trains as configured, together with the other ranks if torchrun started some.

    Returns:
        The final row of results on rank 0, None on the others. See `Trainer` for errors.
    """
    with init_distributed(config.device, config.train.timeout_minutes) as comm:
        row = Trainer(config, resume, comm).run()
        return row if comm.is_main else None
