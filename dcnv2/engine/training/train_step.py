# SPDX-License-Identifier: BSD-3-Clause
"""One update of the weights: forward, backward, optimiser, and how to handle non-finite values."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dcnv2.data.whole_files import make_folder
from dcnv2.engine.config import RunConfig
from dcnv2.engine.runtime.attempt import attempt
from dcnv2.engine.runtime.distributed import Communicator
from dcnv2.engine.runtime.files import write_atomically
from dcnv2.engine.runtime.seeds import set_seed
from dcnv2.engine.training.gradients import share_state
from dcnv2.engine.training.init_weights import load_init_weights
from dcnv2.engine.training.nonfinite import NonFiniteLossError, first_nonfinite_module
from dcnv2.engine.training.optim import (
    build_optimizer,
    scale_lr,
    set_lr,
    skips_on_device,
    step_unless,
)
from dcnv2.engine.training.step_graphs import StepGraphs, reason_against
from dcnv2.engine.training.step_values import Batch, Outcome, StepValues
from dcnv2.models import build_model
from dcnv2.models.detector import Detector
from dcnv2.models.graphs import Recording, recorder_on
from dcnv2.models.transfer import to_device

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
        ddp_model: the detector as `DistributedDataParallel`; with one process, and where steps are
            recorded, the detector itself.
        graphs: recorded steps, None where there are none.
        average: moving average of the weights, None without `train.ema_decay`.
        late: whether the host learns of an update in the next one.
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
        # A loss scale and an average follow from whether the update happened: they wait for it.
        self.late = skips_on_device(self.optimizer) and not half and self.average is None
        self._pending: tuple[Outcome, StepValues] | None = None
        if options.compile is not None:
            known = torch.compiler.list_backends(exclude_tags=())
            if options.compile not in known:
                raise ValueError(
                    f"train.compile: wanted one of {', '.join(known)}, got {options.compile!r}"
                )
            for part in self.model.dense_parts():
                part.compile(backend=options.compile)
        self.graphs = self._step_graphs()
        self.ddp_model: Any = self.model
        if self.graphs is not None and comm.world_size > 1:
            share_state(self.model)
        elif comm.world_size > 1:
            # Without `device_ids`, which would have the targets copied to the device. Buffers of
            # frozen norms never differ.
            statistics = any(isinstance(m, _BatchNorm) for m in self.model.modules())
            self.ddp_model = DistributedDataParallel(
                self.model, broadcast_buffers=statistics, gradient_as_bucket_view=True
            )

    def _step_graphs(self) -> StepGraphs | None:
        recorder = self._recorder()
        if recorder is None:
            return None
        reason = reason_against(self.model, self.comm.world_size, self.config.train.compile)
        if reason is not None:
            log.info("steps run without CUDA graphs: %s", reason)
            return None
        terms = partial(self._terms, self.model.losses)
        return StepGraphs(self.model, terms, self._scaled_loss, recorder)

    def _recorder(self) -> Callable[[], Recording] | None:
        return recorder_on(self.device) if self.device.type == "cuda" else None

    def models(self) -> list[Detector]:
        """Returns the detector and, if there is one, its moving average."""
        average: list[Any] = [] if self.average is None else [self.average.module]
        return [self.model, *average]

    def update(self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]]) -> StepValues:
        """Does one step of the optimiser.

        On CUDA nothing here waits for the device. Whether an update is finite is decided on the
        device, which leaves the weights as they are if it is not; the host learns of it in the
        next update, before that changes the weights, or in `settle`.

        Args:
            images: [3, H, W], bytes or floats in [0, 1], this rank's share of the batch.
            targets: dicts of `boxes`, `labels`, `masks`, and `seed` of the image's random numbers,
                on the CPU.

        Returns:
            Means over all ranks: `loss`, its weighted terms, `lr`, `grad_norm`, and `skipped`. A
            skipped update has only `lr` and `skipped` = 1. Reading one waits for the device.

        Raises:
            NonFiniteLossError: names the first non-finite term of the loss and the module that
                produced it; the weights are unchanged, and `step` is that of the update. Runs with
                `on_nonfinite: skip` raise it only after MAX_SKIPS skipped updates in a row.
        """
        options, parts = self.config.train, self.config.train.accumulate
        set_lr(self.optimizer, self.step, options.steps, self.optim)
        self.optimizer.zero_grad(set_to_none=True)
        terms = []
        for part in range(parts):
            wrapped = self.ddp_model is not self.model and part + 1 < parts
            with self.ddp_model.no_sync() if wrapped else contextlib.nullcontext():
                batch = images[part::parts], targets[part::parts]
                terms.append(self._forward_backward(batch, part))
        if self.graphs is not None and self.comm.world_size > 1:
            self.graphs.gradients.exchange(self.comm)
        outcome = self._outcome((images, targets), terms)
        known = {"lr": self.optimizer.param_groups[0]["lr"]}
        values = StepValues(outcome, known, self.scaler.is_enabled())
        if self.late:
            self.settle()
            self._step_optimizer(outcome.nonfinite)
            self._pending = outcome, values
        elif self._judge(outcome) or self.scaler.is_enabled():
            values.add(**self._step_optimizer())
        self.step += 1
        self.consistent = True
        self.images += len(targets)
        self.objects += sum(len(target["boxes"]) for target in targets)
        return values

    def settle(self) -> None:
        """Waits for the last update, and raises its error if it is one that `update` raises.

        To be called before the weights are read, as for a checkpoint.
        """
        if self._pending is None:
            return
        (outcome, values), self._pending = self._pending, None
        try:
            self._judge(outcome)
        except NonFiniteLossError:
            values.void()
            self.step = outcome.step
            raise

    def _begin_part(self, batch: Batch, part: int, step: int) -> Batch:
        """Seeds a micro-batch and copies its images to the device."""
        # All random numbers follow from the seeds of the step and of the images, so a resumed
        # run needs no saved generator state to draw the same ones.
        share = part * self.comm.world_size + self.comm.rank
        set_seed((self.config.train.seed * 1_000_003 + step) * 4099 + share, self.device)
        return [to_device(image, self.device) for image in batch[0]], batch[1]

    def _terms(self, model: Any, *operands: Any) -> dict[str, Tensor]:
        """Returns the weighted terms of a micro-batch's loss, which a call of the model returns."""
        dtype = AUTOCAST_DTYPES[self.config.train.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            losses = model(*operands)
        weights = vars(self.config.train.loss_weights)
        return {name: weights[name] * loss for name, loss in losses.items()}

    def _scaled_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """Returns the loss of a micro-batch as its gradient is taken."""
        loss = torch.stack([*terms.values()]).sum() / self.config.train.accumulate
        return self.scaler.scale(loss)

    def _forward_backward(self, batch: Batch, part: int) -> dict[str, Tensor]:
        """Returns the terms of a micro-batch's loss, without a graph."""
        batch = self._begin_part(batch, part, self.step)
        if self.graphs is not None:
            return self.graphs.forward_backward(batch, alone=self.config.train.accumulate == 1)
        terms = self._terms(self.ddp_model, *batch)
        self._scaled_loss(terms).backward()
        return {name: term.detach() for name, term in terms.items()}

    def _outcome(self, batch: Batch, parts: Sequence[dict[str, Tensor]]) -> Outcome:
        """Averages the terms over ranks in one exchange, and clips the gradient."""
        own = torch.stack([torch.stack([*terms.values()]) for terms in parts])
        flags = (~own.isfinite()).any(dim=1, keepdim=True)
        # The flags travel in elements of their own: terms that are NaN or infinite hide nothing.
        shared = self.comm.mean(torch.cat([own, flags.to(own.dtype)], dim=1))
        self.scaler.unscale_(self.optimizer)
        gradients = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        norms = torch.stack(torch._foreach_norm([*gradients.values()]))
        norm = torch.linalg.vector_norm(norms)
        if self.optim.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self.model.parameters(), self.optim.clip_norm, norm
            )
        return Outcome(
            *(self.step, batch, [*parts[0]], [*gradients]),
            *(shared[:, :-1], shared[:, -1], own, norms, norm),
        )

    def _judge(self, outcome: Outcome) -> bool:
        """Returns whether an update is finite; otherwise reports it, and raises unless it may."""
        part, half = outcome.bad_part(), self.scaler.is_enabled()
        if part is not None:
            fault = self._explain(outcome, part)
            if half and self.config.train.on_nonfinite == "skip":
                return False  # the scaler skips overflows by itself
        elif half or isfinite(outcome.grad_norm()):
            self.skips = 0
            return True
        else:
            names = ", ".join(outcome.bad_gradients()[:3]) or "finite gradients"
            fault = f"the gradient's norm is {outcome.grad_norm()}, of {names}"
        self.skips += 1
        if self.config.train.on_nonfinite == "stop" or self.skips >= MAX_SKIPS:
            raise NonFiniteLossError(f"step {outcome.step}: {fault}")
        log.warning("skipped step %d: %s", outcome.step, fault)
        return False

    def _explain(self, outcome: Outcome, part: int) -> str:
        """Returns which term is not finite, and if it is this rank's, where that began."""
        fault, own = outcome.bad_term(part), outcome.own_terms(part)
        if all(map(isfinite, own.values())):
            return fault
        parts = self.config.train.accumulate
        images, targets = outcome.batch[0][part::parts], outcome.batch[1][part::parts]

        def again() -> dict[str, Tensor]:
            batch = self._begin_part((images, targets), part, outcome.step)
            return self._terms(self.model, *batch)

        where = _nonfinite_image(images, targets) or first_nonfinite_module(self.model, again)
        self._save_record(outcome.step, targets, own, where)
        return f"{fault}, first in {where}" if where else fault

    def _step_optimizer(self, nonfinite: Tensor | None = None) -> dict[str, float]:
        """Updates weights and their average; returns the loss scale's values, if it is in use.

        Args:
            nonfinite: bool [], on the device: do nothing where it is set.
        """
        self.consistent = False
        if nonfinite is not None:
            step_unless(self.optimizer, nonfinite)
            return {}
        self.scaler.step(self.optimizer)
        scale = self.scaler.get_scale()
        self.scaler.update()
        skipped = self.scaler.is_enabled() and self.scaler.get_scale() < scale
        if self.average is not None and not skipped:
            self.average.update_parameters(self.model)
        return {"loss_scale": scale, "skipped": float(skipped)} if self.scaler.is_enabled() else {}

    def _save_record(
        self,
        step: int,
        targets: Sequence[dict[str, Any]],
        values: Mapping[str, float],
        where: str | None,
    ) -> None:
        """Writes which images of this rank gave non-finite values."""
        folder = self.config.folder
        record = {
            "step": step,
            "rank": self.comm.rank,
            "image_ids": [int(t["image_id"]) for t in targets if "image_id" in t],
            "seeds": [int(t["seed"]) for t in targets if "seed" in t],
            "terms": {key: repr(value) for key, value in values.items()},
            "first": where,
        }
        path = folder / f"nonfinite_step_{step:08d}_rank_{self.comm.rank}.json"
        with attempt(str(path)):
            make_folder(folder)
            write_atomically(path, json.dumps(record, indent=1))


def _nonfinite_image(images: Sequence[Tensor], targets: Sequence[dict[str, Any]]) -> str | None:
    """Names the first image with a non-finite value, which an augmentation can produce."""
    for image, target in zip(images, targets, strict=True):
        if not image.isfinite().all():
            return f"image {target.get('image_id', '')} as it was loaded"
    return None
