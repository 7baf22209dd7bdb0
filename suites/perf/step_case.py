# SPDX-License-Identifier: BSD-3-Clause
"""Which training step is timed: a configuration, its input size, and the operator under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

import dcnv2.nn.conv
from dcnv2.engine.config import RunConfig, load_config
from suites.perf.implementations import torchvision_conv

PLAIN_CONVS = "--model.backbone.convs=[plain,plain,plain,plain]"


@dataclass(frozen=True)
class StepCase:
    """One training step.

    Attributes:
        config: Name of a configuration.
        operator: What runs its deformable convolutions: `dcnv2`, `torchvision`, or `conv2d`, which
            replaces them with regular ones.
        batch: Images per step.
        source: Height and width of the images before resizing.
        side: Shorter side that they are resized to, in pixels.
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
        convs = [PLAIN_CONVS] if self.operator == "conv2d" else []
        return load_config(self.config, [*words, *convs])


def torchvision_conv_in_float32(
    input: Tensor, offset: Tensor, weight: Tensor, bias, stride, padding, dilation, mask
) -> Tensor:
    """torchvision's operator in float32, as its own autocast rule casts it on a GPU.

    It has no bfloat16. The operands are those of `dcnv2.ops.deform_conv2d`.
    """
    wide = [None if t is None else t.float() for t in (input, offset, weight, bias, mask)]
    with torch.autocast(input.device.type, enabled=False):
        out = torchvision_conv()(*wide, stride, padding, dilation)
    return out.to(input.dtype)


@contextmanager
def running(operator: str) -> Iterator[None]:
    """Make the modules of `dcnv2.nn` call an operator: ours, or 'torchvision'."""
    ours = dcnv2.nn.conv.deform_conv2d
    if operator == "torchvision":
        dcnv2.nn.conv.deform_conv2d = torchvision_conv_in_float32
    try:
        yield
    finally:
        dcnv2.nn.conv.deform_conv2d = ours
