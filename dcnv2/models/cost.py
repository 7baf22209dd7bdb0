# SPDX-License-Identifier: BSD-3-Clause
"""Parameters and operations of a configured detector, counted without computing anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

import dcnv2.ops  # noqa: F401  defines torch.ops.dcnv2
from dcnv2.models.box_mask_heads import BoxMaskHeads
from dcnv2.models.config import ModelConfig
from dcnv2.models.layers import FrozenBatchNorm2d
from dcnv2.models.mask_rcnn import build_model
from dcnv2.models.roi_heads import RoIPooler


@dataclass
class Cost:
    """What a detector is made of and takes an image.

    Attributes:
        parameters: all, mimicking included.
        macs: multiply-adds of an inference pass, sampling included.
        height: of the image counted, in pixels.
        width: of the image counted.
    """

    parameters: int
    macs: float
    height: int
    width: int


def model_cost(config: ModelConfig) -> Cost:
    """Counts on the meta device, at the test size of a 3 : 5 image.

    The backbone, the RPN's head, the box head on all test proposals and the mask head on all
    detections count; resizing, NMS and pasting masks do not. A RoI costs the same on every map.
    """
    with torch.device("meta"):
        model = build_model(config, pretrained=False).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            # Not counted, and half of the time to trace.
            module.forward = nn.Identity()  # type: ignore[method-assign]
    # The short side as configured, the long one as its bound allows, in whole strides of 32.
    short = config.min_size[-1]
    sides = (short, min(short * 5 / 3, config.max_size))
    height, width = (32 * math.ceil(side / 32) for side in sides)
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), torch.device("meta"), counter:
        features = model.backbone(torch.empty(1, 3, height, width))
        model.rpn.head([features[level] for level in model.rpn.levels])
        if model.roi_heads is not None:
            _count_heads(model.roi_heads, features, config)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, counter.get_total_flops() / 2, height, width)


def _count_heads(heads: BoxMaskHeads, features: dict[str, Any], config: ModelConfig) -> None:
    proposals = config.rpn.post_nms_test
    heads.box_predictor(heads.box_head(_pool(heads.box_roi_pool, features, proposals)))
    if heads.has_mask():
        detections = config.box.detections_per_image
        if heads.shared:
            maps = heads.box_head.layer4(_pool(heads.box_roi_pool, features, detections))
        else:
            maps = heads.mask_head(_pool(heads.mask_roi_pool, features, detections))
        heads.mask_predictor(maps)


def _pool(pooler: RoIPooler, features: dict[str, Any], count: int) -> torch.Tensor:
    """Pools `count` RoIs; which map they are pooled from makes no difference."""
    rois = torch.empty(count, 5)
    if not pooler.pools:
        return pooler(features, rois)
    return pooler.pools[0](features[pooler.levels[0]], rois)


def _conv_flops(
    x_shape: list[int],
    offset_shape: list[int],
    w_shape: list[int],
    bias: list[int] | None,
    mask: list[int] | None,
    *_: Any,
    out_shape: list[int],
    **__: Any,
) -> int:
    """The convolution, and for each sample of each channel four products with corners."""
    samples = out_shape[0] * x_shape[1] * w_shape[2] * w_shape[3] * math.prod(out_shape[2:])
    modulation = samples if mask is not None else 0
    return conv_flop_count(x_shape, w_shape, out_shape) + 2 * (4 * samples + modulation)


def _pool_flops(*_: Any, out_shape: list[int], **__: Any) -> int:
    """Four products with corners a sample, 2 x 2 samples a bin also where it adapts."""
    return 2 * 4 * 4 * math.prod(out_shape)


_FORMULAS = {
    torch.ops.dcnv2.deform_conv2d: _conv_flops,
    torch.ops.dcnv2.deform_roi_pool: _pool_flops,
    torch.ops.dcnv2.deform_psroi_pool: _pool_flops,
    torch.ops.dcnv2.multiscale_roi_align: _pool_flops,
}
