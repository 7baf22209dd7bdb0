# SPDX-License-Identifier: BSD-3-Clause
"""The operators in plain PyTorch, for every device and without a compiled library.

Coordinates, weights, modulation and sums are float32 (float64 for float64) whatever the dtype.
The functions here do not check their arguments (`dcnv2.ops` does). They record a graph, so they can
be differentiated any number of times. They change no tensor in place: torch.func.linearize keeps
intermediate tensors as constants and would use the changed ones. `dcnv2.ops.fallback` calls the
hand-written gradients of the modules instead, which save no intermediate tensors and work in
pieces of bounded size.

Rules that hold for every path of the operators:

- Gradients are the derivatives of the forward; at a kink, the right-sided derivative.
- Where a RoI pool clamps a coordinate to the map, and at its last pixel, the derivative along that
  axis is 0. (mmcv's deform_roi_pool extrapolates there from the coordinate before clamping. The
  authors' operator reads floor and ceil, which coincide at integers, so it gives 0 there too,
  which is neither of the two one-sided derivatives.)
- The forward jumps where a sample enters or leaves the map; a jump contributes no derivative.
- A NaN offset makes the outputs that use its sample NaN, and no others, and adds nothing to the
  gradient of the input; the gradients of that offset and of its mask are meaningless. A sample with
  an infinite or out-of-range offset is outside the map, so zero.
- A NaN or infinite pixel makes every sample NaN or infinite that has it as a corner, also with a
  corner weight or a mask of zero: zero times infinity is NaN. It reaches no other sample.
- A box that is not finite, whose batch index is outside [0, N), or whose level is the number of
  maps or more, yields NaN bins and no gradient of the input. A box of a negative level is padding:
  its bins are zero, and it has no gradient. An adaptive bin of more than 65536 samples a side
  yields zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from . import conv, multiscale, psroi_pool, roi_pool


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Disable autocast on the tensor's device: it would round the products to a half type."""
    device = tensor.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Convolve as `torch.ops.dcnv2.deform_conv2d` does, in differentiable PyTorch."""
    with full_precision(input):
        return conv.forward(input, offset, weight, bias, mask, stride, padding, dilation)


def deform_roi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    """Pool as `torch.ops.dcnv2.deform_roi_pool` does, in differentiable PyTorch."""
    options = roi_pool.Options(output_size, spatial_scale, sampling_ratio, gamma)
    with full_precision(input):
        return roi_pool.forward(input, rois, offset, mask, options)


def deform_psroi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    output_size: int,
    spatial_scale: float,
    group_size: int,
    part_size: int,
    sample_per_part: int,
    trans_std: float,
) -> Tensor:
    """Pool as `torch.ops.dcnv2.deform_psroi_pool` does, in differentiable PyTorch."""
    options = psroi_pool.Options(
        output_size, spatial_scale, group_size, part_size, sample_per_part, trans_std
    )
    with full_precision(input):
        return psroi_pool.forward(input, rois, offset, mask, options)


def multiscale_roi_align(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Pool as `torch.ops.dcnv2.multiscale_roi_align` does, in differentiable PyTorch."""
    options = multiscale.Options(output_size, spatial_scales, sampling_ratio, aligned)
    with full_precision(inputs[0]):
        return multiscale.forward(inputs, rois, levels, options)
