# SPDX-License-Identifier: BSD-3-Clause
"""Saves a training to checkpoints and restores it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.evaluate import check_categories
from dcnv2.engine.runtime.checkpoint import (
    last_checkpoint,
    list_checkpoints,
    mark_best,
    prune,
    save_checkpoint,
    step_of,
)
from dcnv2.engine.runtime.checkpoint_files import (
    AVERAGE,
    META,
    damage,
    load_meta,
    load_model,
    load_state,
)
from dcnv2.engine.runtime.distributed import Communicator
from dcnv2.engine.runtime.files import DamagedFileError
from dcnv2.engine.training.meter import Meter
from dcnv2.engine.training.optim import restore_optimizer
from dcnv2.engine.training.train_step import TrainStep

log = logging.getLogger("dcnv2")


class Checkpointer:
    """Writes everything that a training needs to continue to the bit, and reads it back.

    Args:
        config: the run.
        train_step: model, optimiser, loss scale, averaged weights and step.
        meter: the values since the last row of metrics.
        classes: names of the classes in label order.
        category_ids: their ids in the data set, for predictions.
    """

    def __init__(
        self,
        config: RunConfig,
        train_step: TrainStep,
        meter: Meter,
        classes: Sequence[str],
        category_ids: Sequence[int],
    ) -> None:
        self.folder, self.keep = config.folder / "checkpoints", config.train.keep_checkpoints
        self.train_step, self.meter, self.classes = train_step, meter, list(classes)
        self.category_ids = list(category_ids)

    def save(self, keep_all: bool = False) -> Path | None:
        """Writes a checkpoint of the current step; returns its folder on rank 0.

        Args:
            keep_all: remove no older checkpoint.
        """
        train_step = self.train_step
        if not train_step.comm.is_main:
            return None
        average = train_step.average
        return save_checkpoint(
            self.folder,
            train_step.step,
            train_step.model,
            {
                "optimizer": train_step.optimizer.state_dict(),
                "scaler": train_step.scaler.state_dict(),
            },
            {
                "classes": self.classes,
                "category_ids": self.category_ids,
                "meter": self.meter.state(),
            },
            sys.maxsize if keep_all else self.keep,
            None if average is None else average.module.state_dict(),
        )

    def load(self, checkpoint: Path) -> None:
        """Restores the training as it was when `save` wrote the checkpoint.

        Raises:
            ValueError: the classes or the weights are those of another model, or the checkpoint
                was exported for inference only.
        """
        train_step, meta = self.train_step, load_meta(checkpoint)
        for key in ("classes", "meter"):
            if key not in meta:
                raise DamagedFileError(
                    checkpoint / META,
                    f"lacks {key}: not written by a training; --train.init can start from it",
                )
        check_categories(self.classes, len(self.classes), meta["classes"])
        load_model(checkpoint, train_step.model)
        state = load_state(checkpoint)
        try:
            restore_optimizer(train_step.optimizer, state["optimizer"])
            if state["scaler"] and train_step.scaler.is_enabled():
                train_step.scaler.load_state_dict(state["scaler"])
            self.meter.load(meta["meter"])
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{checkpoint}: does not fit this training ({type(error).__name__}: {error}); "
                "resume with the options that it was trained with"
            ) from None
        train_step.step = meta["step"]
        if train_step.average is not None:
            if not (checkpoint / AVERAGE).exists():
                raise ValueError(
                    f"{checkpoint}: has no averaged weights, as train.ema_decay was not set; "
                    "resume without it"
                )
            load_model(checkpoint, train_step.average.module, AVERAGE)
            train_step.average.n_averaged.fill_(train_step.step)

    def mark_best(self, metric: str, value: float) -> None:
        """Keeps this step's checkpoint if no evaluation before had a higher value."""
        try:
            mark_best(self.folder, self.train_step.step, metric, value)
        except OSError as error:
            log.warning("the best checkpoint is not marked: %s", error)
            return
        prune(self.folder, self.keep)


def choose_checkpoint(
    config: RunConfig, resume: bool | Literal["auto"], comm: Communicator
) -> Path | None:
    """Returns the checkpoint to resume from, the same on every rank, or None for a new run.

    Raises:
        FileExistsError: the folder holds checkpoints and `resume` is false.
        FileNotFoundError: `resume` is true and there is no checkpoint.
    """
    folder = config.folder / "checkpoints"
    found, all_of_them = None, []
    if comm.is_main:
        all_of_them = list_checkpoints(folder)
        found = last_checkpoint(folder) if resume else None
    found, all_of_them = comm.broadcast((found, all_of_them))
    if all_of_them and not resume:
        newest = all_of_them[-1]
        raise FileExistsError(f"{newest} exists: resume that run, or choose another --name=...")
    if all_of_them and found is None:
        raise ValueError(
            f"{folder}: no checkpoint is intact ({len(all_of_them)} damaged): "
            "move them away to start again"
        )
    if found is None and resume is True:
        raise FileNotFoundError(f"{config.folder} holds no checkpoint to resume from")
    return found


def check_unchanged(config: RunConfig, step: int) -> None:
    """Raises `FileExistsError` if another run wrote to the folder since this one chose its start.

    Args:
        config: the run.
        step: number of updates that this run begins after.
    """
    newest = list_checkpoints(config.folder / "checkpoints")[-1:]
    for path in newest:
        if step_of(path) > step and damage(path) is None:
            raise FileExistsError(f"{path} was written by another run: resume that one")
