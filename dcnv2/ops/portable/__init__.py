# SPDX-License-Identifier: BSD-3-Clause
"""The operators in plain PyTorch: they run on every device with nothing compiled.

Coordinates, weights, modulation and sums are float32 (float64 for float64) whatever the dtype.
Functions here check nothing (`dcnv2.ops` does) and record their own graph, so they can be
differentiated any number of times; below autograd, `dcnv2.ops.schema` uses the hand-written backward
of `conv` and `pool`, which keeps nothing and works in pieces of bounded size.

Derivatives are those of the forward, right-sided where it has a kink, in all three operators:

- Where a RoI pool clamps a coordinate to the map (and at the last pixel itself), the derivative along
  that axis is 0. mmcv's deform_roi_pool instead extrapolates there with the unclamped coordinate.
- The authors' operator reads floor and ceil, which coincide at an integer, so its offset gradient is
  0 there: neither of the two one-sided ones. deform_psroi_pool takes the right-sided one.
- Jumps (a sample that enters the count, or the band of the last pixel) have no derivative and add
  none.

A NaN offset makes NaN of the outputs that use the sample, and of the gradients of that offset and of
its mask; it adds nothing to the input's gradient. An infinite or absurd one reads outside, so zero.
A box that is not finite, or whose batch index is not that of an image, gives NaN bins.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from . import conv, pool


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
    options = (output_size, spatial_scale, sampling_ratio, gamma)
    return pool.roi_forward(input, rois, offset, mask, *options)


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
    options = (output_size, spatial_scale, group_size, part_size, sample_per_part, trans_std)
    return pool.psroi_forward(input, rois, offset, mask, *options)
