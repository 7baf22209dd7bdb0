# SPDX-License-Identifier: BSD-3-Clause
"""One training step of a configured detector, ready to be timed.

The weights are random, but the step costs what it costs in the middle of a training: offsets spread
over a few pixels, and each image's proposals include as many near its objects as a trained RPN
finds, so that the mask head and mimicking have their full number of boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dcnv2.engine.training.optim import build_optimizer
from dcnv2.engine.training.step_graphs import StepGraphs, reason_against
from dcnv2.models.graphs import recorder_on
from dcnv2.models.rpn import Proposals
from dcnv2.nn import DeformConv2dPack, ModulatedDeformConv2dPack
from dcnv2.structures import RunLengthMasks
from suites.perf.step_case import TORCHVISION, StepCase, running

# Objects per image as in COCO, proposals near each, standard deviation of offsets in pixels.
OBJECTS, NEAR_PROPOSALS, OFFSET_PIXELS = 7, 24, 1.5


class TrainingStep:
    """Runs one step per call: forward, backward and update at a learning rate of 0.

    Attributes:
        facts: `parameters_M`, and `input`: the size of the padded batch.
    """

    def __init__(self, case: StepCase, device: torch.device):
        self.case, self.device = case, device
        self.model, config = case.build(device)
        self.model.train()
        images, targets = random_batch(case.batch, case.source, config.model.num_classes, device)
        if case.config == TORCHVISION:
            targets = [{key: value.to(device) for key, value in t.items()} for t in targets]
        else:  # as our data sets have them: on the host, masks as run lengths
            targets = [{**t, "masks": RunLengthMasks.from_dense(t["masks"])} for t in targets]
        self.batch = images, targets
        padded = self.model.transform(self.batch[0])[0].tensors
        with running(case.operator):
            spread_offsets(self.model, padded[:1].to(memory_format=torch.channels_last))
        if self.model.roi_heads is not None:
            add_proposals_near_objects(self.model)
        self.optimizer = build_optimizer(self.model, config.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # the same work, but random weights do not diverge
        self.loss_weights = vars(config.train.loss_weights)
        self.graphs: StepGraphs | None = None
        ours = case.config != TORCHVISION and device.type == "cuda"
        if ours and reason_against(self.model, 1, None) is None:
            terms = partial(self._terms, self.model.losses)
            self.graphs = StepGraphs(self.model, terms, _sum, recorder_on(device))
        height, width = padded.shape[-2:]
        parameters = sum(p.numel() for p in self.model.parameters())
        self.facts = {"parameters_M": parameters / 1e6, "input": f"{height}x{width}"}

    def __call__(self) -> Tensor:
        """Run one step and return its loss; reading it waits for the device."""
        torch.manual_seed(0)
        self.optimizer.zero_grad(set_to_none=True)
        with running(self.case.operator):
            if self.graphs is not None:
                terms = self.graphs.forward_backward(self.batch, alone=True)
            else:
                terms = self._terms(self.model, *self.batch)
                _sum(terms).backward()
        self.optimizer.step()
        return _sum(terms).detach()

    def _terms(self, model: Callable[..., dict[str, Tensor]], *operands: Any) -> dict[str, Tensor]:
        """The weighted terms of the loss that a call of the model returns."""
        with self.case.autocast(self.device):
            losses = model(*operands)
        return {name: self.loss_weights[name] * loss for name, loss in losses.items()}


def _sum(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([*terms.values()]).sum()


def random_batch(
    count: int, size: tuple[int, int], classes: int, device: torch.device
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images [3, H, W] of noise on the device, each with `OBJECTS` boxes from a sixteenth to a half
    of its side, whose masks fill them; targets are on the CPU."""
    random = torch.Generator().manual_seed(0)
    extent = torch.tensor([size[1], size[0]])  # x, y
    images, targets = [], []
    for _ in range(count):
        share = torch.rand(OBJECTS, 2, generator=random)
        sides = extent * (1 / 16 + share * 7 / 16)
        corner = (torch.rand(OBJECTS, 2, generator=random) * (extent - sides)).floor()
        boxes = torch.cat([corner, corner + sides.ceil().clamp(min=2)], dim=1)
        boxes = boxes.minimum(extent.repeat(2))
        masks = torch.zeros(OBJECTS, *size, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        labels = torch.randint(1, classes + 1, (OBJECTS,), generator=random)
        images.append(torch.rand(3, *size, generator=random).to(device))
        targets.append({"boxes": boxes, "labels": labels, "masks": masks})
    return images, targets


def add_proposals_near_objects(model: nn.Module) -> None:
    """Add proposals near the objects to those of an untrained RPN."""

    def near(boxes: Tensor) -> Tensor:
        """Boxes [..., K, 4] with corners shifted by a twentieth of the side: the IoU is mostly from
        0.7 to 0.9."""
        near = boxes.repeat_interleave(NEAR_PROPOSALS, dim=-2)
        sides = (near[..., 2:] - near[..., :2]).repeat_interleave(2, dim=-1)
        return (near + 0.05 * sides * torch.randn_like(near)).clamp(min=0)

    forward = model.rpn.forward

    def add(*operands: Any) -> tuple:
        (proposals, losses), targets = forward(*operands), operands[2]
        if isinstance(proposals, Proposals):
            count = proposals.boxes.shape[1]
            boxes = torch.cat([near(targets.boxes), proposals.boxes], dim=1)[:, :count]
            more = targets.boxes.shape[1] * NEAR_PROPOSALS
            found = Proposals(boxes, proposals.scores, (proposals.count + more).clamp(max=count))
        else:
            found = [
                torch.cat([near(target["boxes"]).to(boxes), boxes])[: max(len(boxes), 1)]
                for boxes, target in zip(proposals, targets, strict=True)
            ]
        return found, losses

    # A hook would keep the step from being recorded.
    model.rpn.forward = add


@torch.no_grad()
def spread_offsets(model: nn.Module, images: Tensor) -> None:
    """Scale each `conv_offset`, in the order of the forward pass, to predict spread offsets.

    Args:
        model: Has a `backbone`.
        images: [N, 3, H, W].
    """
    handles = []

    def scale(conv: nn.Conv2d, _, out: Tensor) -> Tensor:
        factor = OFFSET_PIXELS / out.float().std().clamp(min=1e-12)
        conv.weight.mul_(factor)
        return out * factor

    for module in model.backbone.modules():
        if isinstance(module, DeformConv2dPack | ModulatedDeformConv2dPack):
            nn.init.normal_(module.conv_offset.weight, std=0.01)
            handles.append(module.conv_offset.register_forward_hook(scale))
    model.backbone(images)
    for handle in handles:
        handle.remove()
