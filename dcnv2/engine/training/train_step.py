# SPDX-License-Identifier: BSD-3-Clause
"""One update of the weights: forward, backward, optimiser, and how to handle non-finite values."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dcnv2.data.whole_files import make_folder
from dcnv2.engine.config import RunConfig
from dcnv2.engine.runtime.attempt import attempt
from dcnv2.engine.runtime.distributed import Communicator
from dcnv2.engine.runtime.files import write_atomically
from dcnv2.engine.runtime.rank_flags import mean_with_flag
from dcnv2.engine.runtime.seeds import set_seed
from dcnv2.engine.training.init_weights import load_init_weights
from dcnv2.engine.training.nonfinite import (
    NonFiniteLossError,
    first_nonfinite_module,
    nonfinite_gradients,
)
from dcnv2.engine.training.optim import build_optimizer, scale_lr, set_lr
from dcnv2.models import build_model
from dcnv2.models.detector import Detector

log = logging.getLogger("dcnv2")

# A run that skips non-finite updates ends after this many consecutive ones.
MAX_SKIPS = 100
AUTOCAST_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainStep:
    """A model with its optimiser on one rank; `update` does one step of the training.

    Args:
        config: the run.
        comm: this process among those that train together.
        pretrained: load the initial weights that the configuration names (ImageNet, `train.init`).

    Raises:
        ValueError: initial weights do not fit, or `train.compile` is no backend.

    Attributes:
        step: number of updates done.
        images, objects: on how many this rank has trained since it started.
        consistent: whether the weights are those after `step` updates; false while the optimiser
            changes them.
        model: the detector.
        ddp_model: the detector as `DistributedDataParallel`; with one process the detector itself.
        average: moving average of the weights, None without `train.ema_decay`.
        lr_text: how the learning rate follows from the configuration.
    """

    def __init__(self, config: RunConfig, comm: Communicator, pretrained: bool) -> None:
        self.config, self.comm, self.device = config, comm, comm.device
        self.optim, self.lr_text = scale_lr(config.optim, config.train.batch_size)
        self.step, self.skips, self.consistent = 0, 0, True
        self.images = self.objects = 0
        options = config.train
        if options.deterministic:  # cuBLAS is reproducible only with a workspace of fixed size
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(options.deterministic)
        torch.manual_seed(options.seed)
        self.model = build_model(config.model, pretrained=pretrained)
        if pretrained and options.init is not None:
            load_init_weights(options.init, self.model, config.model)
        self.model.to(self.device)
        if options.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = None
        if options.ema_decay is not None:
            mean = get_ema_multi_avg_fn(options.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=mean, use_buffers=True)
        self.optimizer = build_optimizer(self.model, self.optim)
        half = options.precision == "float16"
        self.scaler = torch.GradScaler(self.device.type, enabled=half)
        if options.compile is not None:
            known = torch.compiler.list_backends(exclude_tags=())
            if options.compile not in known:
                raise ValueError(
                    f"train.compile: wanted one of {', '.join(known)}, got {options.compile!r}"
                )
            for part in self.model.dense_parts():
                part.compile(backend=options.compile)
        self.ddp_model: Any = self.model
        if comm.world_size > 1:
            # Without `device_ids`, which would have the targets copied to the device.
            self.ddp_model = DistributedDataParallel(self.model)

    def models(self) -> list[Detector]:
        """Returns the detector and, if there is one, its moving average."""
        average: list[Any] = [] if self.average is None else [self.average.module]
        return [self.model, *average]

    def update(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """Does one step of the optimiser.

        Args:
            images: [3, H, W], bytes or floats in [0, 1], this rank's share of the batch.
            targets: dicts of `boxes`, `labels`, `masks`, and `seed` of the image's random numbers.

        Returns:
            Means over all ranks: `loss`, its weighted terms, `lr`, `grad_norm`, and `skipped`. A
            skipped update has only `lr` and `skipped` = 1.

        Raises:
            NonFiniteLossError: names the first non-finite term of the loss and the module that
                produced it; the weights are unchanged. Runs with `on_nonfinite: skip` raise it
                only after MAX_SKIPS skipped updates in a row.
        """
        options, parts = self.config.train, self.config.train.accumulate
        set_lr(self.optimizer, self.step, options.steps, self.optim)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        faults = []
        for part in range(parts):
            batch = images[part::parts], targets[part::parts]
            more_follow = self.comm.world_size > 1 and part + 1 < parts
            with self.ddp_model.no_sync() if more_follow else contextlib.nullcontext():
                terms, fault = self._forward_backward(*batch, part)
            sums = {key: sums.get(key, 0.0) + value / parts for key, value in terms.items()}
            faults += [fault] if fault else []
        values = {"lr": self.optimizer.param_groups[0]["lr"], "skipped": 0.0}
        if not faults:
            values |= {"loss": sum(sums.values()), **sums, "grad_norm": self._clip_gradient()}
            faults += self._check_norm(values["grad_norm"])
        if faults and not self.scaler.is_enabled():
            self._skip_or_raise(faults[0])
            values = {"lr": values["lr"], "skipped": 1.0}
        else:
            values |= self._step_optimizer(values.get("grad_norm"))
        self.step += 1
        self.consistent = True
        self.images += len(targets)
        self.objects += sum(len(target["boxes"]) for target in targets)
        return values

    def _forward_backward(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]], part: int
    ) -> tuple[dict[str, float], str | None]:
        """Returns the terms of a micro-batch's loss, averaged over ranks, and a fault or None."""
        options = self.config.train
        images = [image.to(self.device, non_blocking=True) for image in images]

        def forward(model: nn.Module) -> dict[str, Tensor]:
            # All random numbers follow from the seeds of the step and of the images, so a resumed
            # run needs no saved generator state to draw the same ones.
            share = part * self.comm.world_size + self.comm.rank
            set_seed((options.seed * 1_000_003 + self.step) * 4099 + share, self.device)
            dtype = AUTOCAST_DTYPES[options.precision]
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                return model(images, list(targets))

        weights = vars(options.loss_weights)
        terms = {name: weights[name] * loss for name, loss in forward(self.ddp_model).items()}
        own = torch.stack([*terms.values()])
        nonfinite_here = ~own.detach().isfinite().all()
        means, nonfinite = mean_with_flag(own.detach(), nonfinite_here, self.comm)
        values = dict(zip(terms, means, strict=True))
        fault = None
        if nonfinite:
            bad = (f"{name} is {value}" for name, value in values.items() if not isfinite(value))
            fault = next(bad)
            if nonfinite_here:
                where = _nonfinite_image(images, targets)
                where = where or first_nonfinite_module(self.model, lambda: forward(self.model))
                fault += f", first in {where}" if where else ""
                self._save_record(targets, dict(zip(terms, own.tolist(), strict=True)), where)
        if fault is None or options.on_nonfinite == "skip":
            self.scaler.scale(own.sum() / options.accumulate).backward()
        else:
            self._skip_or_raise(fault)
        return values, fault

    def _clip_gradient(self) -> float:
        """Returns the norm of the whole gradient before it is clipped."""
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.optim.clip_norm is not None and norm.isfinite():
            torch.nn.utils.clip_grads_with_norm_(
                self.model.parameters(), self.optim.clip_norm, norm
            )
        return norm.item()

    def _check_norm(self, norm: float) -> list[str]:
        if isfinite(norm) or self.scaler.is_enabled():  # the scaler skips overflows by itself
            return []
        names = nonfinite_gradients(self.model)
        return [f"the gradient's norm is {norm}, of {', '.join(names[:3]) or 'finite gradients'}"]

    def _skip_or_raise(self, fault: str) -> None:
        self.skips += 1
        if self.config.train.on_nonfinite == "stop" or self.skips >= MAX_SKIPS:
            raise NonFiniteLossError(f"step {self.step}: {fault}")
        log.warning("skipped step %d: %s", self.step, fault)
        self.optimizer.zero_grad(set_to_none=True)

    def _step_optimizer(self, norm: float | None) -> dict[str, float]:
        """Updates weights and their average; returns the loss scale's values, if it is in use."""
        self.skips, self.consistent = 0, False
        if norm is None:
            # The loss is not finite: unscale_ reports it to the scaler as an overflow.
            self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        scale = self.scaler.get_scale()
        self.scaler.update()
        skipped = self.scaler.is_enabled() and self.scaler.get_scale() < scale
        if self.average is not None and not skipped:
            self.average.update_parameters(self.model)
        return {"loss_scale": scale, "skipped": float(skipped)} if self.scaler.is_enabled() else {}

    def _save_record(
        self, targets: Sequence[dict[str, Any]], values: Mapping[str, float], where: str | None
    ) -> None:
        """Writes which images of this rank gave non-finite values."""
        folder = self.config.folder
        record = {
            "step": self.step,
            "rank": self.comm.rank,
            "image_ids": [int(t["image_id"]) for t in targets if "image_id" in t],
            "seeds": [int(t["seed"]) for t in targets if "seed" in t],
            "terms": {key: repr(value) for key, value in values.items()},
            "first": where,
        }
        path = folder / f"nonfinite_step_{self.step:08d}_rank_{self.comm.rank}.json"
        with attempt(str(path)):
            make_folder(folder)
            write_atomically(path, json.dumps(record, indent=1))


def _nonfinite_image(images: Sequence[Tensor], targets: Sequence[dict[str, Any]]) -> str | None:
    """Names the first image with a non-finite value, which an augmentation can produce."""
    for image, target in zip(images, targets, strict=True):
        if not image.isfinite().all():
            return f"image {target.get('image_id', '')} as it was loaded"
    return None
