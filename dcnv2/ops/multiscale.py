# SPDX-License-Identifier: BSD-3-Clause
"""RoIAlign from the maps of a feature pyramid in one call, and FPN's choice of the map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from . import autocast, autograd, checks, multiscale_checks, portable, transforms
from .arguments import Boxes, Pair, is_scripting, script_pair
from .functional import join_boxes

if TYPE_CHECKING:
    Maps = Sequence[Tensor]
    Scales = Sequence[float]
else:  # for TorchScript
    Maps = list[Tensor]
    Scales = list[float]


def multiscale_roi_align(
    inputs: Maps,
    rois: Boxes,
    spatial_scales: Scales,
    output_size: Pair = 7,
    sampling_ratio: int = 0,
    aligned: bool = True,
    levels: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """RoIAlign of every RoI from the map of a feature pyramid that fits its size.

    arXiv 1703.06870, section 3. All maps are pooled in one call, without a copy to the host. The
    samples are those of `deform_roi_pool` without offsets and of torchvision's RoIAlign.

    Args:
        inputs: 1 to 8 maps [N, C, Hl, Wl] of one dtype, float32, float64, float16 or bfloat16.
        rois: [R, 5] of (batch index, x1, y1, x2, y2) in pixels of the image, a list with boxes
            [R_i, 4] for each image, or boxes [N, K, 4] of which each image has the same number. In
            the maps' dtype; for half maps also float32. No gradient.
        spatial_scales: pixels of each map per pixel of the image.
        output_size: number of bins per axis: one number, or (ph, pw).
        sampling_ratio: samples per bin and axis, at most 65536; 0 uses one per pixel of the bin,
            rounded up, separately for each box.
        aligned: shift samples by half a pixel. False is the first RoIAlign, whose boxes are also at
            least one pixel of the map large.
        levels: [R] whole numbers, which of the maps each RoI is pooled from. A RoI of a negative
            level is padding: its bins are zero, and it has no gradient. None takes `fpn_levels`.
        counts: [N] whole numbers; of boxes [N, K, 4], those of an image from this number on are
            padding. None if there is none.

    Returns:
        [R, C, ph, pw] in the maps' dtype, also under autocast, and in the memory format of the
        first. R is N * K for boxes [N, K, 4].

    Raises:
        TypeError: an argument has the wrong type, or an operand a dtype that does not fit.
        ValueError: a rank, shape, device, number or (on a CPU) batch index or level does not fit.
    """
    if is_scripting():
        return _script(inputs, rois, spatial_scales, output_size, sampling_ratio, aligned, levels)
    maps = inputs if isinstance(inputs, (list, tuple)) else (inputs,)
    boxes = rois if isinstance(rois, (list, tuple)) else (rois,)
    given = (*maps, *boxes, levels, counts)
    if has_torch_function(given):
        call = (inputs, rois, spatial_scales, output_size, sampling_ratio, aligned, levels, counts)
        return handle_torch_function(multiscale_roi_align, given, *call)
    options = (
        checks.pair("output_size", output_size),
        [checks.real("spatial_scales", scale) for scale in spatial_scales],
        checks.whole("sampling_ratio", sampling_ratio),
        bool(aligned),
    )
    multiscale_checks.check_maps(inputs, options[1])
    rois, padding = _number(rois, counts)
    if autocast.is_enabled(inputs[0]):
        rois, _, _ = autocast.cast_coordinates(inputs[0], rois, None, None)
    if levels is None:
        levels = fpn_levels(rois[:, 1:], options[1])
    levels = checks.whole_tensor("levels", levels)
    if padding is not None:
        levels = torch.where(padding, -1, levels)
    multiscale_checks.check_multiscale_roi_align(inputs, rois, levels, *options)
    multiscale_checks.check_levels(inputs, rois, levels)
    operators = portable if transforms.active_in_compilation() else autograd.operators()
    return operators.multiscale_roi_align(inputs, rois, levels, *options)


def _script(
    inputs: Maps,
    rois: Boxes,
    spatial_scales: Scales,
    output_size: Pair,
    sampling_ratio: int,
    aligned: bool,
    levels: Tensor | None,
) -> Tensor:
    """Call the operator in TorchScript."""
    table = join_boxes(rois)
    if levels is None:
        levels = fpn_levels(table[:, 1:], spatial_scales)
    return torch.ops.dcnv2.multiscale_roi_align(
        inputs,
        table,
        levels.long(),
        script_pair(output_size),
        spatial_scales,
        sampling_ratio,
        aligned,
    )


def _number(rois: Boxes, counts: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return rois [R, 5], and which are padding where there may be some."""
    if isinstance(rois, Tensor) and rois.dim() == 3:
        return _number_padded(rois, counts)
    if counts is not None:
        raise ValueError("counts must be None unless rois are boxes [N, K, 4]")
    rois = join_boxes(rois)
    checks.check_table(rois)
    return rois, None


def _number_padded(boxes: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return rois [N*K, 5] of boxes [N, K, 4], and which are padding."""
    if boxes.shape[2] != 4:
        raise ValueError(f"rois must be [R, 5] or boxes [N, K, 4], got {checks.shape(boxes)}")
    images, most = boxes.shape[:2]
    index = torch.arange(images, device=boxes.device, dtype=boxes.dtype)
    rois = torch.cat([index.view(-1, 1, 1).expand(-1, most, 1), boxes], dim=2).flatten(0, 1)
    if counts is None:
        return rois, None
    counts = checks.whole_tensor("counts", counts)
    if counts.shape != (images,):
        raise ValueError(f"counts must be [N] = [{images}], got {checks.shape(counts)}")
    place = torch.arange(most, device=boxes.device)
    return rois, (place >= counts.unsqueeze(1)).flatten()


def fpn_levels(boxes: Tensor, spatial_scales: Scales) -> Tensor:
    """Return which map of a feature pyramid each box is pooled from: FPN's equation 1.

    A box of 224 x 224 pixels belongs to the map of stride 16, one with twice the side to the map of
    stride 32, and so on (arXiv 1612.03144); sizes outside the pyramid to its first or last map.

    Args:
        boxes: [R, 4], (x1, y1, x2, y2) in pixels of the image.
        spatial_scales: pixels of each map per pixel of the image; each half of the one before.

    Returns:
        [R] int64, from 0 to the number of maps less 1; 0 for a box without an area.
    """
    sides = boxes[:, 2:].float() - boxes[:, :2].float()
    size = (sides[:, 0] * sides[:, 1]).sqrt()
    finest = round(-math.log(spatial_scales[0]) / math.log(2.0))  # TorchScript has no log2
    # As torchvision's LevelMapper, which moves sizes just below a boundary by the last digit.
    level = torch.floor(4 + torch.log2(size / 224) + 1e-6) - finest
    return level.nan_to_num(nan=0.0).clamp(0, len(spatial_scales) - 1).long()
