# SPDX-License-Identifier: BSD-3-Clause
"""Registers the gradients of torch.ops.dcnv2.*.

A forward operator is differentiated by its backward operator, and a backward operator through the
portable path, whichever kernels computed it: second derivatives (gradient penalties, meta
learning) are too rare for kernels of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import portable, schema


def _register(name: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    torch.library.register_autograd(
        f"dcnv2::{name}", backward, setup_context=setup_context, lib=schema.library
    )


def _only(needs: Sequence[bool], grads: Sequence[Tensor]) -> list[Tensor | None]:
    return [grad if needed else None for needed, grad in zip(needs, grads, strict=True)]


def _second_gradients(
    forward: Callable[..., Tensor],
    operands: Sequence[Tensor | None],
    grad_output: Tensor,
    needs: Sequence[bool],
    grad_grads: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Differentiate a backward operator.

    Args:
        forward: maps the operands to the output, in differentiable PyTorch.
        operands: operands of the forward, for which the backward operator may return gradients.
        grad_output: the gradient with respect to the output that it received.
        needs: for each operand, whether it returned a gradient.
        grad_grads: gradients with respect to the gradients that it returned.

    Returns:
        The gradients with respect to grad_output and to each operand.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        output_source, *sources = (_source(t) for t in (grad_output, *operands))
        pairs = [
            (source, grad)
            for source, needed, grad in zip(sources, needs, grad_grads, strict=True)
            if needed and source is not None and grad is not None
        ]
        if not pairs:
            return (None,) * (1 + len(operands))
        out = forward(*sources)
        first = torch.autograd.grad(out, [s for s, _ in pairs], output_source, create_graph=True)
        inputs = [t for t in (output_source, *sources) if t is not None]
        second = iter(
            torch.autograd.grad(
                first, inputs, [g for _, g in pairs], create_graph=create_graph, allow_unused=True
            )
        )
    return tuple(None if t is None else next(second) for t in (output_source, *sources))


def _source(tensor: Tensor | None) -> Tensor | None:
    """Return a leaf to differentiate with respect to, cut off from the graph behind the tensor.

    The operands may depend on each other (grad_output on all of them), and those dependencies must
    not contribute here.
    """
    if tensor is None:
        return None
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


# ---- deform_conv2d


def _conv_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, offset, weight, _bias, mask, *ctx.options = inputs
    ctx.save_for_backward(input, offset, weight, mask)


def _conv_backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    needs = list(ctx.needs_input_grad[:5])
    grads = torch.ops.dcnv2.deform_conv2d_backward(
        grad_output, *ctx.saved_tensors, *ctx.options, needs
    )
    return *_only(needs, grads), None, None, None, None


def _conv_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    *tensors, ctx.stride, ctx.padding, ctx.dilation, _allow_tf32, ctx.needs = inputs
    ctx.save_for_backward(*tensors)


def _conv_second(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_output, input, offset, weight, mask = ctx.saved_tensors
    options = (ctx.stride, ctx.padding, ctx.dilation)
    bias = weight.new_zeros(weight.shape[0])  # no derivative depends on its value
    grads = _second_gradients(
        lambda x, o, w, b, m: portable.deform_conv2d(x, o, w, b, m, *options),
        (input, offset, weight, bias, mask),
        grad_output,
        ctx.needs,
        grad_grads,
    )
    g_output, g_input, g_offset, g_weight, _, g_mask = grads
    return g_output, g_input, g_offset, g_weight, g_mask, *(None for _ in range(5))


_register("deform_conv2d", _conv_backward, _conv_setup)
_register("deform_conv2d_backward", _conv_second, _conv_backward_setup)


# ---- pools


def _register_pool(name: str, portable_forward: Callable[..., Tensor]) -> None:
    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, rois, offset, mask, *ctx.options = inputs
        ctx.save_for_backward(input, rois, offset, mask)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        needs_input, _, needs_offset, needs_mask, *rest = ctx.needs_input_grad
        needs = [needs_input, needs_offset, needs_mask]
        operator = getattr(torch.ops.dcnv2, name + "_backward")
        grads = operator(grad_output, *ctx.saved_tensors, *ctx.options, needs)
        g_input, g_offset, g_mask = _only(needs, grads)
        return g_input, None, g_offset, g_mask, *(None for _ in rest)

    def backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        grad_output, input, rois, offset, mask, *ctx.options, ctx.needs = inputs
        ctx.save_for_backward(grad_output, input, rois, offset, mask)

    def second(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_output, input, rois, offset, mask = ctx.saved_tensors
        g_output, g_input, g_offset, g_mask = _second_gradients(
            lambda x, o, m: portable_forward(x, rois, o, m, *ctx.options),
            (input, offset, mask),
            grad_output,
            ctx.needs,
            grad_grads,
        )
        return g_output, g_input, None, g_offset, g_mask, *(None for _ in (*ctx.options, None))

    _register(name, backward, setup)
    _register(name + "_backward", second, backward_setup)


_register_pool("deform_roi_pool", portable.deform_roi_pool)
_register_pool("deform_psroi_pool", portable.deform_psroi_pool)
