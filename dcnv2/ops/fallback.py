# SPDX-License-Identifier: BSD-3-Clause
"""Registers the portable path as kernels of torch.ops.dcnv2.*, for devices without a library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from . import library, schema
from .portable import conv, full_precision, multiscale, nms, psroi_pool, roi_pool

Kernel = Callable[..., Any]
KERNELS: dict[str, Kernel] = {}  # by operator


def _kernel(name: str) -> Callable[[Kernel], Kernel]:
    def register(function: Kernel) -> Kernel:
        schema.library.impl(name, function, "CompositeExplicitAutograd")
        KERNELS[name] = function
        return function

    return register


def _settle(result: Tensor, like: Tensor) -> Tensor:
    """Return `result` in the memory format that the schema promises."""
    out = schema.empty_result(result.shape, like)
    return result if result.stride() == out.stride() else out.copy_(result)


def _settle_all(
    grads: Sequence[Tensor | None], operands: Sequence[Tensor | None], grad_output: Tensor
) -> tuple[Tensor, ...]:
    return tuple(
        grad_output.new_empty(0) if grad is None or operand is None else _settle(grad, operand)
        for grad, operand in zip(grads, operands, strict=True)
    )


@_kernel("deform_conv2d")
def _(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    allow_tf32: bool = False,
) -> Tensor:
    library.warn_portable_fallback(input.device.type)
    with full_precision(input):
        out = conv.forward(input, offset, weight, bias, mask, stride, padding, dilation)
        return _settle(out, input)


@_kernel("deform_conv2d_backward")
def _(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    allow_tf32: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, ...]:
    with full_precision(input):
        grads = conv.backward(
            grad_output, input, offset, weight, mask, stride, padding, dilation, needs
        )
        g_input, g_offset, g_weight, g_bias, g_mask = grads
        operands = (input, offset, weight, mask)
        settled = _settle_all((g_input, g_offset, g_weight, g_mask), operands, grad_output)
        g_bias = grad_output.new_empty(0) if g_bias is None else g_bias
        return *settled[:3], g_bias, settled[3]


def _register_pool(name: str, module: Any) -> None:
    @_kernel(name)
    def _(
        input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None, *options: Any
    ) -> Tensor:
        library.warn_portable_fallback(input.device.type)
        with full_precision(input):
            out = module.forward(input, rois, offset, mask, module.Options(*options))
            return _settle(out, input)

    @_kernel(name + "_backward")
    def _(
        grad_output: Tensor,
        input: Tensor,
        rois: Tensor,
        offset: Tensor | None,
        mask: Tensor | None,
        *options_and_needs: Any,
    ) -> tuple[Tensor, ...]:
        *options, needs = options_and_needs
        operands = (input, offset, mask)
        needs = [n and t is not None for n, t in zip(needs, operands, strict=True)]
        with full_precision(input):
            grads = module.backward(
                grad_output, input, rois, offset, mask, module.Options(*options), needs
            )
            return _settle_all(grads, operands, grad_output)


_register_pool("deform_roi_pool", roi_pool)
_register_pool("deform_psroi_pool", psroi_pool)


@_kernel("batched_nms")
def _(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, max_out: int
) -> tuple[Tensor, Tensor]:
    library.warn_portable_fallback(boxes.device.type)
    return nms.batched_nms(boxes, scores, groups, iou_threshold, max_out)


@_kernel("multiscale_roi_align")
def _(inputs: Sequence[Tensor], rois: Tensor, levels: Tensor, *options: Any) -> Tensor:
    library.warn_portable_fallback(rois.device.type)
    with full_precision(rois):
        out = multiscale.forward(inputs, rois, levels, multiscale.Options(*options))
        return _settle(out, inputs[0])


@_kernel("multiscale_roi_align_backward")
def _(
    grad_output: Tensor, inputs: Sequence[Tensor], rois: Tensor, levels: Tensor, *options: Any
) -> list[Tensor]:
    *numbers, needs = options
    with full_precision(rois):
        grads = multiscale.backward(
            grad_output, inputs, rois, levels, multiscale.Options(*numbers), needs
        )
        return list(_settle_all(grads, inputs, grad_output))
