# SPDX-License-Identifier: BSD-3-Clause
"""The portable path by itself: its forward and its hand-written backward, no compiled library.

Where nothing was compiled `dcnv2.ops` runs just this; where something was, this reaches it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dcnv2.ops.portable import conv, psroi_pool, roi_pool


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, offset, weight, bias, mask, *options):
        ctx.save_for_backward(input, offset, weight, mask)
        ctx.options = options
        return conv.forward(input, offset, weight, bias, mask, *options)

    @staticmethod
    def backward(ctx, grad_output):
        needs = list(ctx.needs_input_grad[:5])
        grads = conv.backward(grad_output, *ctx.saved_tensors, *ctx.options, needs)
        return *_needed(grads, needs), None, None, None


class _RoIPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, rois, offset, mask, options):
        ctx.save_for_backward(input, rois, offset, mask)
        ctx.options = options
        return roi_pool.forward(input, rois, offset, mask, options)

    @staticmethod
    def backward(ctx, grad_output):
        needs = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        grads = roi_pool.backward(grad_output, *ctx.saved_tensors, ctx.options, needs)
        grads = _needed(grads, needs)
        return grads[0], None, *grads[1:], None


class _PSRoIPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, rois, offset, mask, options):
        ctx.save_for_backward(input, rois, offset, mask)
        ctx.options = options
        return psroi_pool.forward(input, rois, offset, mask, options)

    @staticmethod
    def backward(ctx, grad_output):
        needs = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        grads = psroi_pool.backward(grad_output, *ctx.saved_tensors, ctx.options, needs)
        grads = _needed(grads, needs)
        return grads[0], None, *grads[1:], None


def _needed(grads, needs):
    return [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation) -> Tensor:
    options = (_pair(stride), _pair(padding), _pair(dilation))
    return _Conv.apply(input, offset, weight, bias, mask, *options)


def _deform_roi_pool(
    input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma
) -> Tensor:
    options = roi_pool.Options(output_size, spatial_scale, sampling_ratio, gamma)
    return _RoIPool.apply(input, rois, offset, mask, options)


def _deform_psroi_pool(
    input,
    rois,
    offset,
    mask,
    output_size,
    spatial_scale,
    group_size,
    part_size,
    sample_per_part,
    trans_std,
) -> Tensor:
    part_size = part_size or output_size
    shared = (group_size, part_size, sample_per_part, trans_std)
    options = psroi_pool.Options(output_size, spatial_scale, *shared)
    return _PSRoIPool.apply(input, rois, offset, mask, options)


_OPERATORS = {
    "deform_conv2d": _deform_conv2d,
    "deform_roi_pool": _deform_roi_pool,
    "deform_psroi_pool": _deform_psroi_pool,
}


def operator(op: str) -> Callable[..., Tensor]:
    """The portable function of an operator, with our argument names."""
    return _OPERATORS[op]
