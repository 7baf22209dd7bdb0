# SPDX-License-Identifier: BSD-3-Clause
"""Forward and backward pass of a training step as CUDA graphs.

Recorded are the detector's losses of a padded batch and their gradients. Between them the masks of
the drawn RoIs are cropped as ever: run lengths have another size in every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm

from dcnv2.engine.training.gradients import GradientBuffer
from dcnv2.engine.training.step_values import Batch
from dcnv2.models.detector import Detector
from dcnv2.models.graphs import OperandBuffers, Recording, RecordingCache
from dcnv2.models.mask_targets import ObjectMasks
from dcnv2.models.targets import Targets
from dcnv2.models.transform import ImageBatch

Terms = dict[str, Tensor]


def reason_against(model: Detector, ranks: int, compiler: str | None) -> str | None:
    """Why steps of a detector on a GPU are not recorded; None if they are."""
    if compiler is not None:
        return "train.compile has its own"
    if ranks > 1 and any(isinstance(module, _BatchNorm) for module in model.modules()):
        return "ranks exchange the statistics of BatchNorm"
    if model.asks_device():
        return "deformable pooling from several maps asks the GPU how many boxes each map has"
    return None


class StepGraphs:
    """Computes losses and gradients, from recordings for sizes that come again and again.

    Results are those of an eager step to the bit.

    Args:
        model: the detector, in training mode on a GPU.
        terms: the weighted terms of the loss of a batch.
        scaled: the loss that terms add up to, as its gradient is taken.
        recorder: makes an empty recording.

    Attributes:
        gradients: where recordings leave them, and ranks exchange them.
    """

    def __init__(
        self,
        model: Detector,
        terms: Callable[[ImageBatch, Targets], Terms],
        scaled: Callable[[Terms], Tensor],
        recorder: Callable[[], Recording],
    ) -> None:
        self.model, self._terms, self._scaled = model, terms, scaled
        self._cache: RecordingCache[RecordedStep] = RecordingCache(model, recorder)
        self.gradients = GradientBuffer(model.parameters())

    def forward_backward(self, batch: Batch, alone: bool) -> Terms:
        """Adds the gradients of a micro-batch to those of the parameters.

        Args:
            batch: images and targets.
            alone: whether it is the only micro-batch of its update.

        Returns:
            The terms of its loss.
        """
        images, targets = self.model.prepare(*batch, rounded=True)
        sizes = tuple((t.shape, t.dtype) for t in _operands(images, targets).values())
        recorded = self._cache.find(
            (sizes, targets.masks is None),
            lambda recording: self._record(recording, images, targets),
        )
        if recorded is None:
            terms = self._terms(images, targets)
            self._scaled(terms).backward()
            return {name: term.detach() for name, term in terms.items()}
        terms = recorded.run(images, targets)
        for parameter in recorded.parameters:
            gradient = self.gradients.of[parameter]
            if parameter.grad is not None:
                parameter.grad += gradient
            else:
                # The next micro-batch overwrites the memory of this one.
                parameter.grad = gradient if alone else gradient.clone()
        return terms

    def _record(self, recording: Recording, images: ImageBatch, targets: Targets) -> RecordedStep:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if any(parameter not in self.gradients.of for parameter in parameters):
            self.gradients = GradientBuffer(parameters)

        def step(images: ImageBatch, targets: Targets) -> tuple[list[str], Tensor, list[Parameter]]:
            terms = self._terms(images, targets)
            found = torch.autograd.grad(self._scaled(terms), parameters, allow_unused=True)
            pairs = zip(parameters, found, strict=True)
            fresh = {p: gradient for p, gradient in pairs if gradient is not None}
            torch._foreach_copy_([self.gradients.of[p] for p in fresh], [*fresh.values()])
            return [*terms], torch.stack([*terms.values()]).detach(), [*fresh]

        return RecordedStep(recording, self._cache.buffers, images, targets, step)


class RecordedStep:
    """A step for batches of one size.

    Args:
        recording: empty.
        buffers: memory of the operands.
        images: a batch of the size.
        targets: of the batch.
        step: computes names and values of the loss's terms, and gradients in their places; returns
            the parameters that have one.

    Attributes:
        parameters: those that have a gradient.
    """

    def __init__(
        self,
        recording: Recording,
        buffers: OperandBuffers,
        images: ImageBatch,
        targets: Targets,
        step: Callable[[ImageBatch, Targets], tuple[list[str], Tensor, list[Parameter]]],
    ) -> None:
        self._recording = recording
        own_images, own_targets = copy(images), copy(targets)
        self._operands = {
            name: buffers.copy(name, tensor) for name, tensor in _operands(images, targets).items()
        }
        images.tensors = self._operands["tensors"]  # frees the batch's own
        for name, tensor in self._operands.items():
            setattr(own_images if hasattr(own_images, name) else own_targets, name, tensor)
        self._crops = None if targets.masks is None else LateCrops(recording, targets.masks)
        own_targets.masks = cast(Any, self._crops)
        self._names, self._terms, self.parameters = recording.record(
            lambda: step(own_images, own_targets)
        )

    def run(self, images: ImageBatch, targets: Targets) -> Terms:
        """Computes the gradients of a batch in their places; returns the terms of its loss."""
        torch._foreach_copy_([*self._operands.values()], [*_operands(images, targets).values()])
        images.tensors = self._operands["tensors"]
        if self._crops is not None and targets.masks is not None:
            self._crops.masks = targets.masks
        self._recording.run()
        return dict(zip(self._names, self._terms.clone().unbind(), strict=True))


class LateCrops:
    """Stands for the masks of a batch in a recording: crops those of each run's batch.

    Args:
        recording: in which RoIs are drawn before, and the crops are used after.
        masks: of the batch of the next run.
    """

    def __init__(self, recording: Recording, masks: ObjectMasks) -> None:
        self._recording, self.masks = recording, masks

    def crop(self, boxes: Tensor, image: Tensor, matched: Tensor, size: int) -> Tensor:
        """See `ObjectMasks.crop`."""
        crops = boxes.new_empty(len(boxes), size, size)

        def crop() -> None:
            crops.copy_(self.masks.crop(boxes, image, matched, size))

        self._recording.call_between(crop)
        return crops


def _operands(images: ImageBatch, targets: Targets) -> dict[str, Tensor]:
    """What a step reads of a batch, but for its masks, by the names of the attributes."""
    names = ("boxes", "labels", "present", "ignored", "words")
    of_images = {"tensors": images.tensors, "limits": images.limits}
    return of_images | {name: getattr(targets, name) for name in names}
