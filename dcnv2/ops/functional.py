# SPDX-License-Identifier: BSD-3-Clause
"""The functions that users call: they normalise options, follow autocast, check, and dispatch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import checks, schema

_ops = torch.ops.dcnv2


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolve at places that are moved by `offset` and weighed by `mask`.

    Deformable convolution v1 without a mask, v2 with one (arXiv 1811.11168, section 3.2):
    y(p) = sum_k w_k · x(p + p_k + offset_k) · mask_k, bilinear, zero outside. The signature is
    torchvision's.

    Args:
        input: [N, C, H, W], float32, float64, float16 or bfloat16.
        offset: [N, 2*G*kh*kw, Ho, Wo] in pixels, ordered [G, kh, kw, (y, x)], for G deform groups.
            In input's dtype, or float32 beside a half one.
        weight: [O, C/groups, kh, kw], in input's dtype; the group count follows from the shapes.
        bias: [O], in input's dtype.
        stride: step between outputs, one number or (y, x).
        padding: zeros round the input, one number or (y, x).
        dilation: step between taps, one number or (y, x).
        mask: [N, G*kh*kw, Ho, Wo], ordered [G, kh, kw], already through its sigmoid. Dtype as
            offset's.

    Returns:
        [N, O, Ho, Wo] in input's dtype and memory format. Under autocast: in autocast's dtype;
        offsets are never rounded to a half type.

    Raises:
        TypeError: an operand is not a tensor, or its dtype does not fit.
        ValueError: a rank, shape, device or number does not fit.
    """
    stride, padding = _pair("stride", stride), _pair("padding", padding)
    dilation = _pair("dilation", dilation)
    checks.check_deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation)
    return _ops.deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation)


def deform_roi_pool(
    input: Tensor,
    rois: Tensor | Sequence[Tensor],
    offset: Tensor | None = None,
    mask: Tensor | None = None,
    output_size: int | Sequence[int] = 7,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Tensor:
    """Average bilinear samples over the bins of each RoI, each bin moved and weighed."""
    output_size = _pair("output_size", output_size)
    rois = _as_rois(rois)
    options = (output_size, float(spatial_scale), sampling_ratio, float(gamma))
    checks.check_deform_roi_pool(input, rois, offset, mask, *options)
    return _ops.deform_roi_pool(input, rois, offset, mask, *options)


def deform_psroi_pool(
    input: Tensor,
    rois: Tensor | Sequence[Tensor],
    offset: Tensor | None = None,
    mask: Tensor | None = None,
    output_size: int | Sequence[int] = 7,
    spatial_scale: float = 1.0,
    group_size: int = 1,
    part_size: int | None = None,
    sample_per_part: int = 4,
    trans_std: float = 0.1,
) -> Tensor:
    """Pool position-sensitive maps over the bins of each RoI, as the authors' operator does."""
    output_size = _square("output_size", output_size)
    rois = _as_rois(rois)
    part_size = part_size or output_size
    options = (output_size, float(spatial_scale), group_size, part_size, sample_per_part,
               float(trans_std))  # fmt: skip
    checks.check_deform_psroi_pool(input, rois, offset, mask, *options)
    return _ops.deform_psroi_pool(input, rois, offset, mask, *options)


def _pair(name: str, value: int | Sequence[int]) -> Sequence[int]:
    if isinstance(value, int):
        return (value, value)
    if len(value) != 2:
        raise ValueError(f"{name} must be one number or two (y, x), got {value}")
    return tuple(value)


def _square(name: str, value: int | Sequence[int]) -> int:
    height, width = _pair(name, value)
    if height != width:
        raise ValueError(f"{name} must be square, got {height}x{width}")
    return height


def _as_rois(rois: Tensor | Sequence[Tensor]) -> Tensor:
    """Join a list of boxes [R_i, 4] per image to rois [R, 5]."""
    if isinstance(rois, Tensor):
        return rois
    for number, boxes in enumerate(rois):
        if not isinstance(boxes, Tensor) or boxes.dim() != 2 or boxes.shape[1] != 4:
            got = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
            raise ValueError(f"rois[{number}] must be boxes [R_i, 4], got {got}")
    if not rois:
        raise ValueError(
            "rois must be a tensor [R, 5] or a list with boxes [R_i, 4] for each image"
        )
    numbered = [torch.nn.functional.pad(b, (1, 0), value=i) for i, b in enumerate(rois)]
    return torch.cat(numbered)
