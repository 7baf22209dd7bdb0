# SPDX-License-Identifier: BSD-3-Clause
"""The operators' schemas, fakes, gradients and portable kernels.

Shapes (the one place that defines them)
    input   [N, C, H, W]; half, float or double.
    offset  deform_conv2d: [N, G*kh*kw*2, Ho, Wo], in pixels, ordered [G, kh, kw, (y, x)]: channel
            2*(g*kh*kw + i*kw + j) is the y of tap (i, j) in deform group g, the next one its x.
            deform_roi_pool: [R, 2, ph, pw] and deform_psroi_pool: [R, 2*classes, part, part], in
            RoI sizes, planar: even channels are x, odd ones y.
    mask    deform_conv2d: [N, G*kh*kw, Ho, Wo], multiplies the samples; pools: [R, 1, ph, pw],
            multiplies the bins. Without one, no modulation.
    weight  [O, C/groups, kh, kw]; bias [O].
    rois    [R, 5]: batch index, x1, y1, x2, y2 in image pixels.

What a kernel may assume
    `dcnv2.ops.checks` has run: ranks, sizes, dtypes, devices and numbers fit; the kernel is at least
    1x1 and the output at least 1x1. input, weight, bias and grad_output have one dtype; offset, mask
    and rois have that dtype or, beside a half one, each on its own float32. N, O and R may be 0, and
    for deform_conv2d H and W too.
What it may not
    Contiguity, alignment or any stride, 0 included, of any operand. Finite values: see the rules in
    `dcnv2.ops.portable`. A batch index in range: on a CPU that is checked before, elsewhere such a
    RoI gives NaN bins, and no gradient to the input, without reading outside.
What it returns
    Forward: input's dtype. Backward: one gradient per operand and in its dtype (bias: weight's), an
    empty [0] tensor of grad_output's dtype where `needs` is false or the operand is None.
    Memory: a 4-d result has the channels_last format where its operand has it and is not also
    contiguous (forward: input; each gradient: its own operand), else it is contiguous.
    No result shares memory with an operand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import checks, portable
from .portable import conv, pool

_CONV = "int[2] stride, int[2] padding, int[2] dilation"
_ROI = "int[2] output_size, float spatial_scale, int sampling_ratio, float gamma"
_PSROI = (
    "int output_size, float spatial_scale, int group_size, int part_size, int sample_per_part, "
    "float trans_std"
)
_POOLED = "Tensor input, Tensor rois, Tensor? offset, Tensor? mask"
SCHEMAS = {
    "deform_conv2d": (
        f"(Tensor input, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask, {_CONV})"
        " -> Tensor"
    ),
    "deform_conv2d_backward": (
        f"(Tensor grad_output, Tensor input, Tensor offset, Tensor weight, Tensor? mask, {_CONV}, "
        "bool[5] needs) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
    "deform_roi_pool": f"({_POOLED}, {_ROI}) -> Tensor",
    "deform_roi_pool_backward": (
        f"(Tensor grad_output, {_POOLED}, {_ROI}, bool[3] needs) -> (Tensor, Tensor, Tensor)"
    ),
    "deform_psroi_pool": f"({_POOLED}, {_PSROI}) -> Tensor",
    "deform_psroi_pool_backward": (
        f"(Tensor grad_output, {_POOLED}, {_PSROI}, bool[3] needs) -> (Tensor, Tensor, Tensor)"
    ),
}

_library = torch.library.Library("dcnv2", "DEF")
for _name, _signature in SCHEMAS.items():
    _library.define(_name + _signature, tags=(torch.Tag.pt2_compliant_tag,))


def memory_format(tensor: Tensor) -> torch.memory_format:
    """Return the format that a 4-d result takes from its operand."""
    if tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def _empty(size: Sequence[int], like: Tensor) -> Tensor:
    return like.new_empty(size).contiguous(memory_format=memory_format(like))


def _settle(result: Tensor, like: Tensor) -> Tensor:
    """Copy `result` into the memory that the schema promises, unless it has it already."""
    out = torch.empty(
        result.shape, dtype=result.dtype, device=result.device, memory_format=memory_format(like)
    )
    return result if result.stride() == out.stride() else out.copy_(result)


def _settle_gradients(
    grads: Sequence[Tensor | None], operands: Sequence[Tensor | None], like: Tensor
) -> tuple[Tensor, ...]:
    return tuple(
        like.new_empty(0) if grad is None else _settle(grad, operand) if grad.dim() == 4 else grad
        for grad, operand in zip(grads, operands, strict=True)
    )


def _fake_result(size: Sequence[int], like: Tensor) -> Tensor:
    return torch.empty(
        size, dtype=like.dtype, device=like.device, memory_format=memory_format(like)
    )


def _fake_gradients(
    needs: Sequence[bool], operands: Sequence[Tensor | None], like: Tensor
) -> tuple[Tensor, ...]:
    return tuple(
        _fake_result(operand.shape, operand)
        if needed and operand is not None
        else like.new_empty(0)
        for needed, operand in zip(needs, operands, strict=True)
    )


def _impl(name: str):
    return torch.library.impl(f"dcnv2::{name}", "CompositeExplicitAutograd", lib=_library)


def _fake(name: str):
    return torch.library.register_fake(f"dcnv2::{name}", lib=_library)


# ---- deform_conv2d


@_impl("deform_conv2d")
def _conv(input, offset, weight, bias, mask, stride, padding, dilation):
    out = conv.forward(input, offset, weight, bias, mask, stride, padding, dilation)
    return _settle(out, input)


@_fake("deform_conv2d")
def _conv_fake(input, offset, weight, bias, mask, stride, padding, dilation):
    checks.check_deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation)
    size = (input.shape[0], weight.shape[0], offset.shape[2], offset.shape[3])
    return _fake_result(size, input)


@_impl("deform_conv2d_backward")
def _conv_backward(grad_output, input, offset, weight, mask, stride, padding, dilation, needs):
    grads = conv.backward(
        grad_output, input, offset, weight, mask, stride, padding, dilation, needs
    )
    return _settle_gradients(grads, (input, offset, weight, None, mask), grad_output)


@_fake("deform_conv2d_backward")
def _conv_backward_fake(grad_output, input, offset, weight, mask, stride, padding, dilation, needs):
    g_input, g_offset, g_weight, _, g_mask = _fake_gradients(
        needs, (input, offset, weight, None, mask), grad_output
    )
    g_bias = weight.new_empty(weight.shape[0] if needs[3] else 0)
    return g_input, g_offset, g_weight, g_bias, g_mask


def _conv_setup(ctx, inputs, output):
    input, offset, weight, bias, mask, *ctx.options = inputs
    ctx.save_for_backward(input, offset, weight, mask)


def _conv_vjp(ctx, grad_output):
    needs = list(ctx.needs_input_grad[:5])  # input, offset, weight, bias, mask
    grads = torch.ops.dcnv2.deform_conv2d_backward(
        grad_output, *ctx.saved_tensors, *ctx.options, needs
    )
    grads = [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]
    return *grads, None, None, None


torch.library.register_autograd(
    "dcnv2::deform_conv2d", _conv_vjp, setup_context=_conv_setup, lib=_library
)


# ---- pools


def _register_pool(name: str, forward, backward, fake_size, check) -> None:
    """Register a pool and its backward, which share their shape but for the options."""
    grad_op = getattr(torch.ops.dcnv2, name + "_backward")

    @_impl(name)
    def _forward(input, rois, offset, mask, *options):
        return _settle(forward(input, rois, offset, mask, *options), input)

    @_fake(name)
    def _forward_fake(input, rois, offset, mask, *options):
        check(input, rois, offset, mask, *options)
        return _fake_result(fake_size(input, rois, *options), input)

    @_impl(name + "_backward")
    def _backward(grad_output, input, rois, offset, mask, *rest):
        *options, needs = rest
        needs = [n and t is not None for n, t in zip(needs, (input, offset, mask), strict=True)]
        grads = backward(grad_output, input, rois, offset, mask, *options, needs=needs)
        return _settle_gradients(grads, (input, offset, mask), grad_output)

    @_fake(name + "_backward")
    def _backward_fake(grad_output, input, rois, offset, mask, *rest):
        return _fake_gradients(rest[-1], (input, offset, mask), grad_output)

    def setup(ctx, inputs, output):
        *tensors, ctx.options = *inputs[:4], inputs[4:]
        ctx.save_for_backward(*tensors)

    def vjp(ctx, grad_output):
        needs_input, _, needs_offset, needs_mask = ctx.needs_input_grad[:4]
        needs = [needs_input, needs_offset, needs_mask]
        grads = grad_op(grad_output, *ctx.saved_tensors, *ctx.options, needs)
        grads = [grad if needed else None for grad, needed in zip(grads, needs, strict=True)]
        return grads[0], None, *grads[1:], *(None for _ in ctx.options)

    torch.library.register_autograd(f"dcnv2::{name}", vjp, setup_context=setup, lib=_library)


def _roi_size(input, rois, output_size, *_):
    return rois.shape[0], input.shape[1], output_size[0], output_size[1]


def _psroi_size(input, rois, output_size, spatial_scale, group_size, *_):
    return rois.shape[0], input.shape[1] // group_size**2, output_size, output_size


_register_pool(
    "deform_roi_pool", pool.roi_forward, pool.roi_backward, _roi_size, checks.check_deform_roi_pool
)
_register_pool(
    "deform_psroi_pool",
    pool.psroi_forward,
    pool.psroi_backward,
    _psroi_size,
    checks.check_deform_psroi_pool,
)
