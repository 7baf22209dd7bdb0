# SPDX-License-Identifier: BSD-3-Clause
"""The portable path: its forward and its hand-written backward, without a compiled library.

`dcnv2.ops` runs it if no library was compiled; this module runs it in any case.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dcnv2.ops.fallback import KERNELS


def _function(op: str, count: int, saved: tuple[int, ...], needed: tuple[int, ...]) -> Callable:
    """Make a differentiable function of an operator's `count` tensors and its options.

    Args:
        op: the operator.
        count: how many tensors it takes.
        saved: which of them its backward takes.
        needed: which of them have a gradient.
    """

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arguments):
            tensors, ctx.options = arguments[:count], arguments[count:]
            ctx.save_for_backward(*(tensors[index] for index in saved))
            return KERNELS[op](*arguments)

        @staticmethod
        def backward(ctx, grad_output):
            needs = [ctx.needs_input_grad[index] for index in needed]
            backward = KERNELS[op + "_backward"]
            grads = iter(backward(grad_output, *ctx.saved_tensors, *ctx.options, needs))
            by_tensor = [next(grads) if index in needed else None for index in range(count)]
            wanted = ctx.needs_input_grad[:count]
            kept = [g if w else None for g, w in zip(by_tensor, wanted, strict=True)]
            return *kept, *(None for _ in ctx.options)

    return Function.apply


_conv = _function("deform_conv2d", 5, (0, 1, 2, 4), (0, 1, 2, 3, 4))
_roi = _function("deform_roi_pool", 4, (0, 1, 2, 3), (0, 2, 3))
_psroi = _function("deform_psroi_pool", 4, (0, 1, 2, 3), (0, 2, 3))


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation) -> Tensor:
    geometry = (_pair(stride), _pair(padding), _pair(dilation))
    return _conv(input, offset, weight, bias, mask, *geometry, False)  # no TF32


def _deform_roi_pool(
    input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma
) -> Tensor:
    options = (_pair(output_size), spatial_scale, sampling_ratio, gamma)
    return _roi(input, rois, offset, mask, *options)


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
    options = (group_size, part_size or output_size, sample_per_part, trans_std)
    return _psroi(input, rois, offset, mask, output_size, spatial_scale, *options)


class _Multiscale(torch.autograd.Function):
    """multiscale_roi_align, whose maps are a list."""

    @staticmethod
    def forward(ctx, options, rois, levels, *inputs):
        ctx.save_for_backward(rois, levels, *inputs)
        ctx.options = options
        return KERNELS["multiscale_roi_align"](inputs, rois, levels, *options)

    @staticmethod
    def backward(ctx, grad_output):
        rois, levels, *inputs = ctx.saved_tensors
        needs = ctx.needs_input_grad[3:]
        backward = KERNELS["multiscale_roi_align_backward"]
        grads = backward(grad_output, inputs, rois, levels, *ctx.options, needs)
        kept = (g if needed else None for g, needed in zip(grads, needs, strict=True))
        return None, None, None, *kept


def _multiscale_roi_align(
    inputs, rois, spatial_scales, output_size, sampling_ratio, aligned, levels
) -> Tensor:
    options = (_pair(output_size), spatial_scales, sampling_ratio, aligned)
    return _Multiscale.apply(options, rois, levels, *inputs)


_OPERATORS = {
    "deform_conv2d": _deform_conv2d,
    "deform_roi_pool": _deform_roi_pool,
    "deform_psroi_pool": _deform_psroi_pool,
    "batched_nms": KERNELS["batched_nms"],
    "multiscale_roi_align": _multiscale_roi_align,
}


def operator(op: str) -> Callable[..., Tensor]:
    """The portable function of an operator, with our argument names."""
    return _OPERATORS[op]
