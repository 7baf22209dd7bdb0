# SPDX-License-Identifier: BSD-3-Clause
"""Registers the derivatives of torch.ops.dcnv2.*.

A forward operator is differentiated by its backward operator, and a backward operator through the
portable path, whichever kernels computed it: second derivatives (gradient penalties, meta
learning) are too rare for kernels of their own.

torch.library.register_autograd is not used: it keeps the host busy for longer than a small
convolution takes, and ignores forward-mode derivatives (see `transforms`). For the same reason an
eager call from Python goes by `eager`, not through the dispatcher to a kernel that is in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from . import portable, schema, transforms
from .portable import conv, multiscale, psroi_pool, roi_pool

Kernel = Callable[..., Any]

# Calls the operators as torch.ops.dcnv2 does, where only autograd needs to see the call without the
# dispatcher's way there and back.
eager = SimpleNamespace()


def operators() -> Any:
    """Return the namespace to call an operator from: the dispatcher's while compiling."""
    return torch.ops.dcnv2 if torch.compiler.is_compiling() else eager


def _register(
    name: str,
    function: type[Function],
    portable_path: Kernel,
    flatten: Callable[[Sequence[Any]], Sequence[Any]] = tuple,
) -> None:
    """Register an operator's autograd kernel, and its call in `eager`.

    Args:
        name: the operator.
        function: calls the operator by `_below_autograd` and records its gradient.
        portable_path: computes the same in differentiable PyTorch.
        flatten: turns the operator's arguments into those of `function`, where autograd finds every
            tensor.
    """
    operator = getattr(torch.ops.dcnv2, name).default
    # Function.apply without what it does for torch.func, which the kernel has excluded.
    record = super(Function, function).apply  # type: ignore[misc]

    def differentiable(*arguments: Any) -> Any:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*arguments):
            return record(*flatten(arguments))
        return _below_autograd(operator, *arguments)

    def kernel(*arguments: Any) -> Any:
        if transforms.apply_to(flatten(arguments)):
            return portable_path(*arguments)
        return differentiable(*arguments)

    def call(*arguments: Any) -> Any:
        return (differentiable if transforms.only_autograd() else operator)(*arguments)

    schema.library.impl(name, kernel, "Autograd")
    setattr(eager, name, call)


def _below_autograd(operator: Kernel, *arguments: Any) -> Any:
    """Call an operator's kernel for the device, which records no gradient."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


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


def _or_empty(grads: Sequence[Tensor | None], grad_output: Tensor) -> tuple[Tensor, ...]:
    return tuple(grad_output.new_empty(0) if grad is None else grad for grad in grads)


# ---- deform_conv2d


class _DeformConv2d(Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        offset: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        allow_tf32: bool = False,  # the dispatcher omits a default
    ) -> Tensor:
        ctx.save_for_backward(input, offset, weight, mask)
        ctx.options = options = (stride, padding, dilation, allow_tf32)
        operator = torch.ops.dcnv2.deform_conv2d.default
        return _below_autograd(operator, input, offset, weight, bias, mask, *options)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad[:5]
        grads = eager.deform_conv2d_backward(grad_output, *ctx.saved_tensors, *ctx.options, needs)
        return *_only(needs, grads), None, None, None, None


class _DeformConv2dBackward(Function):
    @staticmethod
    def forward(
        ctx: Any,
        grad_output: Tensor,
        input: Tensor,
        offset: Tensor,
        weight: Tensor,
        mask: Tensor | None,
        *options: Any,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad_output, input, offset, weight, mask)
        ctx.options = options
        operator = torch.ops.dcnv2.deform_conv2d_backward.default
        return _below_autograd(operator, grad_output, input, offset, weight, mask, *options)

    @staticmethod
    def backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_output, input, offset, weight, mask = ctx.saved_tensors
        *geometry, _allow_tf32, needs = ctx.options
        bias = weight.new_zeros(weight.shape[0])  # no derivative depends on its value
        grads = _second_gradients(
            lambda x, o, w, b, m: portable.deform_conv2d(x, o, w, b, m, *geometry),
            (input, offset, weight, bias, mask),
            grad_output,
            needs,
            grad_grads,
        )
        g_output, g_input, g_offset, g_weight, _, g_mask = grads
        return g_output, g_input, g_offset, g_weight, g_mask, *(None for _ in ctx.options)


def _conv_backward(grad_output: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    without_tf32 = (*arguments[:7], arguments[8])
    return _or_empty(conv.backward(grad_output, *without_tf32), grad_output)


def _portable_conv(*arguments: Any) -> Tensor:
    return portable.deform_conv2d(*arguments[:8])  # without allow_tf32


_register("deform_conv2d", _DeformConv2d, _portable_conv)
_register("deform_conv2d_backward", _DeformConv2dBackward, _conv_backward)
schema.library.impl("deform_conv2d", _portable_conv, "FuncTorchBatched")  # vmap


# ---- pools


def _register_pool(name: str, module: ModuleType, portable_path: Callable[..., Tensor]) -> None:
    operator = getattr(torch.ops.dcnv2, name).default
    backward_operator = getattr(torch.ops.dcnv2, name + "_backward").default

    class Pool(Function):
        @staticmethod
        def forward(
            ctx: Any,
            input: Tensor,
            rois: Tensor,
            offset: Tensor | None,
            mask: Tensor | None,
            *options: Any,
        ) -> Tensor:
            ctx.save_for_backward(input, rois, offset, mask)
            ctx.options = options
            return _below_autograd(operator, input, rois, offset, mask, *options)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
            needs_input, _, needs_offset, needs_mask, *_ = ctx.needs_input_grad
            needs = [needs_input, needs_offset, needs_mask]
            backward = getattr(eager, name + "_backward")
            grads = backward(grad_output, *ctx.saved_tensors, *ctx.options, needs)
            g_input, g_offset, g_mask = _only(needs, grads)
            return g_input, None, g_offset, g_mask, *(None for _ in ctx.options)

    class PoolBackward(Function):
        @staticmethod
        def forward(
            ctx: Any,
            grad_output: Tensor,
            input: Tensor,
            rois: Tensor,
            offset: Tensor | None,
            mask: Tensor | None,
            *options: Any,
        ) -> tuple[Tensor, ...]:
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(grad_output, input, rois, offset, mask)
            ctx.options = options
            operands = (input, rois, offset, mask)
            return _below_autograd(backward_operator, grad_output, *operands, *options)

        @staticmethod
        def backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
            grad_output, input, rois, offset, mask = ctx.saved_tensors
            *options, needs = ctx.options
            g_output, g_input, g_offset, g_mask = _second_gradients(
                lambda x, o, m: portable_path(x, rois, o, m, *options),
                (input, offset, mask),
                grad_output,
                needs,
                grad_grads,
            )
            return g_output, g_input, None, g_offset, g_mask, *(None for _ in ctx.options)

    def portable_backward(grad_output: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        *operands, options, needs = (*arguments[:4], arguments[4:-1], arguments[-1])
        grads = module.backward(grad_output, *operands, module.Options(*options), needs)
        return _or_empty(grads, grad_output)

    _register(name, Pool, portable_path)
    _register(name + "_backward", PoolBackward, portable_backward)
    schema.library.impl(name, portable_path, "FuncTorchBatched")  # vmap


_register_pool("deform_roi_pool", roi_pool, portable.deform_roi_pool)
_register_pool("deform_psroi_pool", psroi_pool, portable.deform_psroi_pool)


# ---- multiscale_roi_align, which is linear in its inputs


class _MultiscaleRoIAlign(Function):
    @staticmethod
    def forward(ctx: Any, rois: Tensor, levels: Tensor, *options_and_inputs: Any) -> Tensor:
        options, inputs = options_and_inputs[:4], options_and_inputs[4:]
        ctx.save_for_backward(rois, levels, *inputs)
        ctx.options = options
        operator = torch.ops.dcnv2.multiscale_roi_align.default
        return _below_autograd(operator, inputs, rois, levels, *options)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        rois, levels, *inputs = ctx.saved_tensors
        needs = ctx.needs_input_grad[6:]
        backward = eager.multiscale_roi_align_backward
        grads = backward(grad_output, inputs, rois, levels, *ctx.options, needs)
        return *(None for _ in range(6)), *_only(needs, grads)


class _MultiscaleRoIAlignBackward(Function):
    @staticmethod
    def forward(
        ctx: Any, grad_output: Tensor, rois: Tensor, levels: Tensor, *options_and_inputs: Any
    ) -> tuple[Tensor, ...]:
        *options, needs = options_and_inputs[:5]
        inputs = options_and_inputs[5:]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rois, levels, *inputs)
        ctx.options, ctx.needs = options, needs
        operator = torch.ops.dcnv2.multiscale_roi_align_backward.default
        grads = _below_autograd(operator, grad_output, inputs, rois, levels, *options, needs)
        return tuple(grads)

    @staticmethod
    def backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        rois, levels, *inputs = ctx.saved_tensors
        maps = [
            g if needed and g is not None else torch.zeros_like(x)
            for g, needed, x in zip(grad_grads, ctx.needs, inputs, strict=True)
        ]
        second = torch.ops.dcnv2.multiscale_roi_align(maps, rois, levels, *ctx.options)
        return second, *(None for _ in range(7 + len(inputs)))


def _multiscale_backward(grad_output: Tensor, *arguments: Any) -> list[Tensor]:
    inputs, rois, levels, *numbers, needs = arguments
    options = multiscale.Options(*numbers)
    grads = multiscale.backward(grad_output, inputs, rois, levels, options, needs)
    return list(_or_empty(grads, grad_output))


_register(
    "multiscale_roi_align",
    _MultiscaleRoIAlign,
    portable.multiscale_roi_align,
    lambda arguments: (*arguments[1:], *arguments[0]),
)
_register(
    "multiscale_roi_align_backward",
    _MultiscaleRoIAlignBackward,
    _multiscale_backward,
    lambda arguments: (arguments[0], *arguments[2:], *arguments[1]),
)
schema.library.impl("multiscale_roi_align", portable.multiscale_roi_align, "FuncTorchBatched")
for _key in ("FuncTorchBatched", "Batched"):  # whose fallbacks take no lists of tensors
    schema.library.impl("multiscale_roi_align_backward", _multiscale_backward, _key)
