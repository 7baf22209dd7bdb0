# SPDX-License-Identifier: BSD-3-Clause
"""One training step to be timed: a configured detector, a drawn batch, and the operator under it.

Weights are drawn, yet the step costs what it costs in the middle of a training: offsets spread over
a few pixels, and the proposals of each image include as many near its objects as a trained RPN
gives, so that the mask head and mimicking have their full number of boxes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn

import dcnv2.nn.conv
from dcnv2.engine.config import RunConfig, load_config
from dcnv2.engine.training.optim import build_optimizer
from dcnv2.models import build_model
from dcnv2.nn import DeformConv2dPack, ModulatedDeformConv2dPack

# Objects an image as COCO has them, proposals near each, standard deviation of offsets in pixels.
OBJECTS, NEAR_PROPOSALS, OFFSET_PIXELS = 7, 24, 1.5
WARM_UP_STEPS = 2
PLAIN = "--model.backbone.convs=[plain,plain,plain,plain]"


@dataclass(frozen=True)
class StepCase:
    """What is timed.

    Attributes:
        config: name of a configuration.
        operator: what runs its deformable convolutions: `dcnv2`, `torchvision`, or `conv2d`, which
            puts plain ones in their place.
        batch: images a step.
        source: height and width of the images given.
        side: shorter side that they are resized to, in pixels.
        precision: `bfloat16` runs under autocast.
    """

    config: str
    operator: str
    batch: int
    source: tuple[int, int]
    side: int
    precision: str = "bfloat16"

    def load(self) -> RunConfig:
        """The configuration at this case's size, without ImageNet weights."""
        words = [f"--model.min_size=[{self.side}]", f"--model.max_size={2 * self.side}"]
        words += ["--model.backbone.weights=null", f"--train.precision={self.precision}"]
        return load_config(self.config, [*words, *([PLAIN] if self.operator == "conv2d" else [])])


def torchvision_conv(
    input: Tensor, offset: Tensor, weight: Tensor, bias, stride, padding, dilation, mask
) -> Tensor:
    """torchvision's operator in float32, as its own autocast has it on a GPU: it knows no bfloat16.

    The operands are those of `dcnv2.ops.deform_conv2d`.
    """
    operands = [t if t is None else t.float() for t in (input, offset, weight, bias, mask)]
    with torch.autocast(input.device.type, enabled=False):
        *operands, mask = operands
        out = torchvision.ops.deform_conv2d(*operands, stride, padding, dilation, mask)
    return out.to(input.dtype)


@contextmanager
def running(operator: str) -> Iterator[None]:
    """Has the modules of `dcnv2.nn` call torchvision's deformable convolution, if that is asked."""
    ours = dcnv2.nn.conv.deform_conv2d
    if operator == "torchvision":
        dcnv2.nn.conv.deform_conv2d = torchvision_conv
    try:
        yield
    finally:
        dcnv2.nn.conv.deform_conv2d = ours


def drawn_batch(
    count: int, size: tuple[int, int], classes: int, device: torch.device
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images [3, H, W] of noise, each with `OBJECTS` boxes from a sixteenth to a half of its side,
    whose masks fill them."""
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
        target = {"boxes": boxes, "labels": labels, "masks": masks}
        images.append(torch.rand(3, *size, generator=random).to(device))
        targets.append({key: value.to(device) for key, value in target.items()})
    return images, targets


def find_objects(model: nn.Module) -> None:
    """Adds proposals near the objects to those of an RPN that has learned nothing."""

    def add(_, inputs: tuple, outputs: tuple) -> tuple:
        (proposals, losses), targets = outputs, inputs[2]
        found = []
        for boxes, target in zip(proposals, targets, strict=True):
            near = target["boxes"].repeat(NEAR_PROPOSALS, 1)
            sides = (near[:, 2:] - near[:, :2]).repeat(1, 2)
            # Corners a twentieth of the side off: IoU mostly from 0.7 to 0.9.
            near = near + 0.05 * sides * torch.randn_like(near)
            found.append(torch.cat([near.clamp(min=0).to(boxes), boxes])[: max(len(boxes), 1)])
        return found, losses

    model.rpn.register_forward_hook(add)


@torch.no_grad()
def spread_offsets(model: nn.Module, images: Tensor) -> None:
    """Scales each `conv_offset`, in the order of the forward pass, to predict spread offsets.

    Args:
        model: has a `backbone`.
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


def build_step(case: StepCase, device: torch.device) -> tuple[Callable[[], float], dict]:
    """A function that takes one step, at learning rate 0, and gives its loss; facts on the case.

    Returns:
        The function, which returns after the device is done; `parameters_M` and `input`, the size
        of the padded batch.
    """
    config = case.load()
    torch.manual_seed(0)
    with torch.device(device):
        model = build_model(config.model, pretrained=False)
    model.to(memory_format=torch.channels_last).train()
    images, targets = drawn_batch(case.batch, case.source, config.model.num_classes, device)
    padded = model.transform(images)[0].tensors
    with running(case.operator):
        spread_offsets(model, padded[:1].to(memory_format=torch.channels_last))
    if model.roi_heads is not None:
        find_objects(model)
    optimizer = build_optimizer(model, config.optim)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the same work, but drawn weights do not run away
    weights = vars(config.train.loss_weights)
    half = case.precision == "bfloat16"

    def step() -> float:
        torch.manual_seed(0)
        with running(case.operator), torch.autocast(device.type, torch.bfloat16, enabled=half):
            losses = model(images, targets)
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    parameters = sum(p.numel() for p in model.parameters())
    height, width = padded.shape[-2:]
    return step, {"parameters_M": parameters / 1e6, "input": f"{height}x{width}"}


def time_step(case: StepCase, device: torch.device, seconds: float, least: int = 3) -> dict:
    """Times a case.

    Args:
        case: what.
        device: where.
        seconds: steps are timed for about that long.
        least: number of steps that are timed at least.

    Returns:
        A row: the case, its loss, p20, p50 and p80 of the steps in ms by the host's clock
        (each step ends in a synchronize), images a second, peak memory in GiB (GPU only).

    Raises:
        FloatingPointError: a loss is not finite.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    step, facts = build_step(case, device)
    losses = [step() for _ in range(WARM_UP_STEPS)]
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        if on_gpu:
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        losses.append(step())
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    if not all(map(math.isfinite, losses)):
        raise FloatingPointError(f"{case}: losses are {losses}")
    p20, p50, p80 = torch.tensor(times).mul(1e3).quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()
    return {
        "config": case.config,
        "operator": case.operator,
        "precision": case.precision,
        "batch": case.batch,
        **facts,
        "loss": losses[0],
        "steps": len(times),
        "p20_ms": p20,
        "p50_ms": p50,
        "p80_ms": p80,
        "images_s": 1e3 * case.batch / p50,
        "peak_GiB": torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else float("nan"),
    }
