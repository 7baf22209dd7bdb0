# SPDX-License-Identifier: BSD-3-Clause
"""Which step is timed: of a configuration, at an input size, on an operator; and its detector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import dcnv2.nn.conv
from dcnv2.engine.config import RunConfig, load_config
from dcnv2.models import build_model
from suites.perf.implementations import torchvision_conv
from suites.perf.torchvision_detector import torchvision_detector

PLAIN_CONVS = "--model.backbone.convs=[plain,plain,plain,plain]"
TORCHVISION, ITS_PEER = "torchvision.mask_rcnn_r50_fpn", "mask_rcnn/r50_fpn"
"""The name of torchvision's own detector, and the configuration of ours that it is built like."""
TRAINING, INFERENCE = "training", "inference"


@dataclass(frozen=True)
class StepCase:
    """One step of training or inference.

    Attributes:
        config: Name of a configuration, or `TORCHVISION`.
        operator: What runs its deformable convolutions: `dcnv2`, `torchvision`, or `conv2d`, which
            replaces them with regular ones.
        batch: Images per step.
        source: Height and width of the images before resizing.
        side: Shorter side that they are resized to, in pixels.
        precision: `bfloat16` runs under autocast.
        mode: `training` or `inference`.
    """

    config: str
    operator: str
    batch: int
    source: tuple[int, int]
    side: int
    precision: str = "bfloat16"
    mode: str = TRAINING

    def load(self) -> RunConfig:
        """The configuration at this case's size, without ImageNet weights."""
        words = [f"--model.min_size=[{self.side}]", f"--model.max_size={2 * self.side}"]
        words += ["--model.backbone.weights=null", f"--train.precision={self.precision}"]
        convs = [PLAIN_CONVS] if self.operator == "conv2d" else []
        name = ITS_PEER if self.config == TORCHVISION else self.config
        return load_config(name, [*words, *convs])

    def build(self, device: torch.device) -> tuple[nn.Module, RunConfig]:
        """Returns the detector with random weights, channels_last, and its options."""
        config = self.load()
        torch.manual_seed(0)
        with torch.device(device):
            if self.config == TORCHVISION:
                model = torchvision_detector(config.model)
            else:
                model = build_model(config.model, pretrained=False)
        return model.to(memory_format=torch.channels_last), config

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context that its precision asks for."""
        half = self.precision == "bfloat16"
        return torch.autocast(device.type, torch.bfloat16, enabled=half)


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
