# SPDX-License-Identifier: BSD-3-Clause
"""One step of training: forward, backward, and what to do about values that are not finite."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dcnv2.engine.config import RunConfig
from dcnv2.engine.runtime.distributed import Communicator
from dcnv2.engine.runtime.signals import StopSignals
from dcnv2.engine.training.init_weights import load_init_weights
from dcnv2.engine.training.nonfinite import (
    NonFiniteLossError,
    first_nonfinite_module,
    nonfinite_gradients,
)
from dcnv2.engine.training.optim import build_optimizer, scale_lr, set_lr
from dcnv2.engine.training.per_image_rng import PerImageRng
from dcnv2.models import build_model
from dcnv2.models.detector import Detector
from dcnv2.models.offsets import OffsetMonitor

log = logging.getLogger("dcnv2")

# That many skipped updates on end stop a run that skips.
MAX_SKIPS = 100
AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainStep:
    """A model with its optimiser, on one of the ranks that train together.

    Args:
        config: the run.
        comm: this process among them.
        pretrained: start from ImageNet's or other weights, where the configuration names some.

    Attributes:
        step: updates done.
        stop_asked: whether a rank got a signal to end before the last update.
    """

    def __init__(self, config: RunConfig, comm: Communicator, pretrained: bool) -> None:
        self.config, self.comm, self.device = config, comm, comm.device
        self.folder = config.folder
        self.optim, self.lr_text = scale_lr(config.optim, config.train.batch_size)
        self.step, self.skips, self.stop_asked = 0, 0, False
        self.signals = StopSignals()
        options = config.train
        if options.deterministic:  # cuBLAS reproduces its sums in a workspace of its own only
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(options.deterministic)
        torch.manual_seed(options.seed)
        self.model = build_model(config.model, pretrained=pretrained)
        if pretrained and options.init is not None:
            load_init_weights(options.init, self.model)
        self.model.to(self.device)
        if options.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.average = None
        if options.ema_decay is not None:
            mean = get_ema_multi_avg_fn(options.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=mean, use_buffers=True)
        self.optimizer = build_optimizer(self.model, self.optim)
        half = options.precision == "float16"
        self.scaler = torch.GradScaler(self.device.type, enabled=half)
        self.draws = PerImageRng(self.model)
        self.offsets = OffsetMonitor(self.model)
        if options.compile is not None:
            for part in self.model.dense_parts():
                part.compile(backend=options.compile)
        self.wrapped: Detector | DistributedDataParallel = self.model
        if comm.world_size > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.model, device_ids=devices)

    def update(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """One step of the optimiser.

        Args:
            images: float [3, H, W] in [0, 1], this rank's share.
            targets: dicts of `boxes`, `labels`, `masks`, and `seed` of the image's own draws.

        Returns:
            Means over all ranks: `loss`, its weighted terms, `lr`, `grad_norm`, and `skipped` (1
            where the update was left out, then alone with `lr`).

        Raises:
            NonFiniteLossError: names the first bad term of the loss, and the module where it came
                from; weights stay as they were. Not where the run skips such updates.
        """
        options, parts = self.config.train, self.config.train.accumulate
        set_lr(self.optimizer, self.step, options.steps, self.optim)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        faults = []
        for part in range(parts):
            batch = images[part::parts], targets[part::parts]
            between = self.comm.world_size > 1 and part + 1 < parts
            with self.wrapped.no_sync() if between else contextlib.nullcontext():
                values, fault = self._pass(*batch, part)
            sums = {key: sums.get(key, 0.0) + value / parts for key, value in values.items()}
            faults += [fault] if fault else []
        self.stop_asked = sums.pop("stop_asked") > 0
        report = {"lr": self.optimizer.param_groups[0]["lr"], "skipped": 0.0}
        if not faults:
            report |= {"loss": sum(sums.values()), **sums, "grad_norm": self._gradient_norm()}
            faults += self._bad_norm(report["grad_norm"])
        if faults and not self.scaler.is_enabled():
            self._skip(faults[0])
            report = {"lr": report["lr"], "skipped": 1.0}
        else:
            report |= self._apply(report.get("grad_norm"))
        self.step += 1
        return report

    def _pass(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]], part: int
    ) -> tuple[dict[str, float], str | None]:
        """Forward and backward of a micro-batch: the terms' means over ranks, and what is wrong."""
        options = self.config.train
        images = [image.to(self.device, non_blocking=True) for image in images]
        moved = [
            {k: v.to(self.device, non_blocking=True) for k, v in t.items() if isinstance(v, Tensor)}
            for t in targets
        ]

        def forward(model: nn.Module) -> dict[str, Tensor]:
            # All that is random is drawn from the step's and the images' own seeds: a resumed run
            # draws what the uninterrupted one would, with no generator state to save.
            share = part * self.comm.world_size + self.comm.rank
            seeds = [int(target.get("seed", 0)) for target in targets]
            self.draws.begin(seeds, (options.seed * 1_000_003 + self.step) * 4099 + share)
            dtype = AUTOCAST[options.precision]
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                return model(images, [dict(target) for target in moved])

        weights = vars(options.loss_weights)
        terms = {name: weights[name] * loss for name, loss in forward(self.wrapped).items()}
        own = torch.stack([*terms.values()])
        # What is not finite on one rank is so in every rank's mean: all take the same way on.
        asked = own.new_tensor([float(self.signals.received is not None)])
        means = self.comm.mean(torch.cat([own.detach(), asked])).tolist()
        values = dict(zip((*terms, "stop_asked"), means, strict=True))
        fault = next((f"{k} is {v}" for k, v in values.items() if v - v != 0), None)
        if fault is not None and not own.isfinite().all():
            where = _bad_image(images, targets)
            where = where or first_nonfinite_module(self.model, lambda: forward(self.model))
            fault += f", first in {where}" if where else ""
            self._save_batch(targets, dict(zip(terms, own.tolist(), strict=True)), where)
        if fault is None or options.on_nonfinite == "skip":
            self.scaler.scale(own.sum() / options.accumulate).backward()
        else:
            self._skip(fault)
        return values, fault

    def _gradient_norm(self) -> float:
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.optim.clip_norm is not None and norm.isfinite():
            torch.nn.utils.clip_grads_with_norm_(
                self.model.parameters(), self.optim.clip_norm, norm
            )
        return norm.item()

    def _bad_norm(self, norm: float) -> list[str]:
        if norm - norm == 0 or self.scaler.is_enabled():  # the loss scale looks after itself
            return []
        names = nonfinite_gradients(self.model)
        return [f"the gradient's norm is {norm}, of {', '.join(names[:3]) or 'finite gradients'}"]

    def _skip(self, fault: str) -> None:
        """Stops the run, or counts an update that is left out."""
        self.skips += 1
        if self.config.train.on_nonfinite == "stop" or self.skips >= MAX_SKIPS:
            raise NonFiniteLossError(f"step {self.step}: {fault}")
        log.warning("step %d is left out: %s", self.step, fault)
        self.optimizer.zero_grad(set_to_none=True)

    def _apply(self, norm: float | None) -> dict[str, float]:
        """Steps the optimiser and the average; how the loss scale fared, if there is one."""
        self.skips = 0
        if norm is None:
            # A loss that is not finite: the scale must learn of it as of an infinite gradient.
            self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        scale = self.scaler.get_scale()
        self.scaler.update()
        skipped = self.scaler.is_enabled() and self.scaler.get_scale() < scale
        if self.average is not None and not skipped:
            self.average.update_parameters(self.model)
        return {"loss_scale": scale, "skipped": float(skipped)} if self.scaler.is_enabled() else {}

    def _save_batch(
        self, targets: Sequence[dict[str, Any]], values: Mapping[str, float], where: str | None
    ) -> None:
        """Writes down which images gave values that are not finite."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {
            "step": self.step,
            "rank": self.comm.rank,
            "image_ids": [int(t["image_id"]) for t in targets if "image_id" in t],
            "seeds": [int(t["seed"]) for t in targets if "seed" in t],
            "terms": {key: repr(value) for key, value in values.items()},
            "first": where,
        }
        path = self.folder / f"nonfinite_step_{self.step:08d}_rank_{self.comm.rank}.json"
        path.write_text(json.dumps(record, indent=1))


def _bad_image(images: Sequence[Tensor], targets: Sequence[dict[str, Any]]) -> str | None:
    """The first image with a value that is not finite, as an augmentation may leave it."""
    for image, target in zip(images, targets, strict=True):
        if not image.isfinite().all():
            return f"image {target.get('image_id', '')} as it was loaded"
    return None
