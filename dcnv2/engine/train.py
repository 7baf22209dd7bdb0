# SPDX-License-Identifier: BSD-3-Clause
"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from dcnv2.engine.checkpoint import (
    last_checkpoint,
    load_meta,
    load_model,
    load_optimizer,
    save_checkpoint,
)
from dcnv2.engine.config import RunConfig, to_yaml
from dcnv2.engine.datasets import open_train, open_val, train_batches
from dcnv2.engine.device import pick_device
from dcnv2.engine.evaluate import check_categories, evaluate
from dcnv2.engine.journal import Journal
from dcnv2.engine.optim import build_optimizer, set_lr
from dcnv2.engine.predict import prediction_sheet
from dcnv2.models import build_model
from dcnv2.models.offsets import OffsetMonitor

log = logging.getLogger("dcnv2")

# Pictures of each evaluation that TensorBoard shows.
SHEET_IMAGES = 8


class NonFiniteLossError(FloatingPointError):
    """A term of the loss, or the gradient, is NaN or infinite."""


class Meter:
    """Sums of values since the last row of metrics; they travel in checkpoints."""

    def __init__(self, state: Mapping | None = None) -> None:
        self.sums: dict[str, float] = dict(state["sums"]) if state else {}
        self.count: int = state["count"] if state else 0

    def add(self, values: Mapping[str, float]) -> None:
        """Adds the values of one step."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        self.count += 1

    def take(self) -> dict[str, float]:
        """Returns the means and starts anew."""
        means = {key: value / self.count for key, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state(self) -> dict:
        """What the constructor takes."""
        return {"sums": self.sums, "count": self.count}


class Trainer:
    """Model, optimiser and data of one run, and where they stand.

    Args:
        config: the run.
        resume: go on from the newest checkpoint in the run's folder.

    Raises:
        FileExistsError: the folder holds checkpoints and `resume` is false.
        FileNotFoundError: `resume` is true and there is no checkpoint.
        ValueError: the categories of the splits, the model or the checkpoint differ.
    """

    def __init__(self, config: RunConfig, resume: bool = False) -> None:
        self.config = config
        self.device = pick_device(config.device)
        self.folder = config.folder
        checkpoint = last_checkpoint(self.folder / "checkpoints")
        if checkpoint is not None and not resume:
            raise FileExistsError(
                f"{checkpoint} is there: resume that run, or give another --name=..."
            )
        if checkpoint is None and resume:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint to resume from")
        masks = config.model.mask.enabled and config.model.task == "detection"
        self.train_set = open_train(config.data, masks)
        self.val_set = open_val(config.data, masks)
        self.names = self.train_set.names
        check_categories(self.names, config.model.num_classes)
        check_categories(self.val_set.names, config.model.num_classes, self.names)

        torch.use_deterministic_algorithms(config.train.deterministic)
        torch.manual_seed(config.train.seed)
        self.model = build_model(config.model, pretrained=not resume).to(self.device)
        if config.train.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.model, config.optim)
        self.offsets = OffsetMonitor(self.model)
        self.step, self.meter = 0, Meter()
        if checkpoint is not None:
            self._restore(checkpoint)

    def run(self) -> pd.DataFrame:
        """Trains up to the last step, evaluates, and returns the row of results."""
        config, folder = self.config.train, self.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(self.config))
        with Journal(folder, self.step, config.steps) as journal:
            log.info("on %s: %r, %r", self.device, self.train_set, self.val_set)
            self.model.train()
            began = time.perf_counter()
            for images, targets in train_batches(self.train_set, self.config, self.step):
                loaded = time.perf_counter()
                if self._row_follows(self.step + 1):
                    self.offsets.watch()
                terms = self.update(images, targets)
                ended = time.perf_counter()
                times = {"data_ms": 1e3 * (loaded - began), "step_ms": 1e3 * (ended - loaded)}
                self.meter.add({**terms, **times})
                self._after_update(journal)
                began = time.perf_counter()
            return self._evaluate(journal)

    def update(self, images: Sequence[Tensor], targets: Sequence[dict]) -> dict[str, float]:
        """One step of the optimiser.

        Args:
            images: float [3, H, W] in [0, 1].
            targets: dicts of `boxes`, `labels`, `masks`.

        Returns:
            `loss`, its weighted terms, `lr`, and `grad_norm` where gradients are clipped.

        Raises:
            NonFiniteLossError: names the first bad term of the loss; weights stay as they were.
        """
        config = self.config
        # Proposal sampling and image sizes are drawn from the step's own seed: a resumed run draws
        # what the uninterrupted one would, with no generator state to save.
        torch.manual_seed(config.train.seed * 1_000_003 + self.step)
        set_lr(self.optimizer, self.step, config.train.steps, config.optim)
        images = [image.to(self.device, non_blocking=True) for image in images]
        targets = [
            {k: v.to(self.device, non_blocking=True) for k, v in t.items() if isinstance(v, Tensor)}
            for t in targets
        ]
        half = config.train.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            losses = self.model(images, targets)
        weights = vars(config.train.loss_weights)
        terms = {name: weights[name] * loss for name, loss in losses.items()}
        total = torch.stack(list(terms.values())).sum()
        values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))
        self._check_finite(values)

        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        report = {
            "loss": sum(values.values()),
            **values,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        if config.optim.clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.optim.clip_norm)
            report["grad_norm"] = float(norm)
            self._check_finite({"the gradient's norm": report["grad_norm"]})
        self.optimizer.step()
        self.step += 1
        return report

    def _check_finite(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise NonFiniteLossError(f"step {self.step}: {name} is {value}")

    def _row_follows(self, step: int) -> bool:
        return step % self.config.train.log_every == 0 or step == self.config.train.steps

    def _after_update(self, journal: Journal) -> None:
        config, last = self.config.train, self.step == self.config.train.steps
        if self._row_follows(self.step):
            journal.row(self.step, self.meter.take(), self.offsets.take())
        if self.step % config.checkpoint_every == 0 or last:
            self.save()
        if config.eval_every and self.step % config.eval_every == 0 and not last:
            self._evaluate(journal)

    def save(self) -> Path:
        """Writes a checkpoint of this step."""
        meta = {"classes": self.names, "meter": self.meter.state()}
        return save_checkpoint(
            self.folder / "checkpoints",
            self.step,
            self.model,
            self.optimizer,
            meta,
            self.config.train.keep_checkpoints,
        )

    def _restore(self, checkpoint: Path) -> None:
        meta = load_meta(checkpoint)
        check_categories(self.names, self.config.model.num_classes, meta["classes"])
        load_model(checkpoint, self.model)
        load_optimizer(checkpoint, self.optimizer)
        self.step, self.meter = meta["step"], Meter(meta["meter"])

    def _evaluate(self, journal: Journal) -> pd.DataFrame:
        row, per_class = evaluate(self.model, self.val_set, self.config, self.device)
        row.insert(0, "step", self.step)
        indices = range(min(SHEET_IMAGES, len(self.val_set)))
        pictures, _ = prediction_sheet(self.model, self.val_set, indices, self.config, self.device)
        journal.result(row, per_class, pictures)
        return row


def train(config: RunConfig, resume: bool = False) -> pd.DataFrame:
    """Trains as configured; returns the final row of results. See `Trainer`."""
    return Trainer(config, resume).run()
