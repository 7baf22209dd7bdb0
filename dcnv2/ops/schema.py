# SPDX-License-Identifier: BSD-3-Clause
"""The schemas of torch.ops.dcnv2.*, and the contract between them and the kernels.

Shapes (defined here only)
    input   [N, C, H, W]; float16, bfloat16, float32 or float64.
    offset  deform_conv2d: [N, G*kh*kw*2, Ho, Wo], in pixels, ordered [G, kh, kw, (y, x)]: channel
            2*(g*kh*kw + i*kw + j) is the y of tap (i, j) in deform group g, the next one its x.
            deform_roi_pool [R, 2, ph, pw] and deform_psroi_pool [R, 2*classes, part, part]: as
            fractions of the RoI's size; even channels are x, odd channels y.
    mask    deform_conv2d: [N, G*kh*kw, Ho, Wo], multiplies the samples; pools: [R, 1, ph, pw],
            multiplies the bins. None means no modulation.
    weight  [O, C/groups, kh, kw]; bias [O].
    rois    [R, 5]: batch index, x1, y1, x2, y2 in image pixels.
    boxes   [N, K, 4]: x1, y1, x2, y2; float32 or float64. scores [N, K] in the same dtype, -inf
            where there is no box; groups [N, K], int64. batched_nms returns kept indices
            [N, max_out] and counts [N], both int64 and contiguous.
    inputs  of multiscale_roi_align: maps [N, C, Hl, Wl], at most 8, each with its spatial scale.
    levels  [R], int64: which of the maps a RoI is pooled from; negative for padding.

What a kernel may assume
    The operands passed `dcnv2.ops.checks` or csrc/checks.h: ranks, sizes, dtypes, devices and
    options fit together and are within `operand_limits`; C, O, the kernel and the output are not
    empty; group counts divide their channels. input, weight, bias and grad_output share a dtype;
    offset, mask and rois have that dtype, or each of them float32 if input is half precision.
    N and R may be 0, and H and W too for deform_conv2d. inputs share a dtype, N and C. needs is
    true where a gradient is wanted, and may be true for an operand that is None. If allow_tf32 is
    true, products of float32 may use TF32. N and K may be 0 for batched_nms.
What a kernel may not assume
    A memory layout: every operand may be strided, offset, overlapping (expanded) or misaligned.
    Finite values, or valid boxes and batch indices: `dcnv2.ops.portable` defines their results.
    Batch indices are checked on the CPU only; on other devices the check would block the host.
What a kernel returns
    Forward: the output in input's dtype. Backward: a gradient for each operand in that operand's
    dtype (for bias, weight's), or an empty [0] tensor of grad_output's dtype if `needs` is false or
    the operand is None.
    A 4-d result is channels_last in memory if its operand (input, or the first of inputs, for an
    output, the operand itself for a gradient) is channels_last and not contiguous; else it is
    contiguous.
    No result shares memory with an operand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import checks, multiscale_checks, nms
from .onnx.running_export import add_translations

_CONV = "int[2] stride, int[2] padding, int[2] dilation"
_POOLED = "Tensor input, Tensor rois, Tensor? offset, Tensor? mask"
_ROI = "int[2] output_size, float spatial_scale, int sampling_ratio, float gamma"
_PSROI = (
    "int output_size, float spatial_scale, int group_size, int part_size, int sample_per_part, "
    "float trans_std"
)
_PYRAMID = "Tensor[] inputs, Tensor rois, Tensor levels"
_ALIGN = "int[2] output_size, float[] spatial_scales, int sampling_ratio, bool aligned"
SCHEMAS = {
    "deform_conv2d": (
        f"(Tensor input, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask, {_CONV}, "
        "bool allow_tf32=False) -> Tensor"
    ),
    "deform_conv2d_backward": (
        f"(Tensor grad_output, Tensor input, Tensor offset, Tensor weight, Tensor? mask, {_CONV}, "
        "bool allow_tf32, bool[5] needs) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
    "deform_roi_pool": f"({_POOLED}, {_ROI}) -> Tensor",
    "deform_roi_pool_backward": (
        f"(Tensor grad_output, {_POOLED}, {_ROI}, bool[3] needs) -> (Tensor, Tensor, Tensor)"
    ),
    "deform_psroi_pool": f"({_POOLED}, {_PSROI}) -> Tensor",
    "deform_psroi_pool_backward": (
        f"(Tensor grad_output, {_POOLED}, {_PSROI}, bool[3] needs) -> (Tensor, Tensor, Tensor)"
    ),
    "batched_nms": (
        "(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold, int max_out) "
        "-> (Tensor, Tensor)"
    ),
    "multiscale_roi_align": f"({_PYRAMID}, {_ALIGN}) -> Tensor",
    "multiscale_roi_align_backward": (
        f"(Tensor grad_output, {_PYRAMID}, {_ALIGN}, bool[] needs) -> Tensor[]"
    ),
}

library = torch.library.Library("dcnv2", "DEF")
for _name, _signature in SCHEMAS.items():
    library.define(_name + _signature, tags=(torch.Tag.pt2_compliant_tag,))


def empty_result(size: Sequence[int], like: Tensor) -> Tensor:
    """Allocate a 4-d result in the dtype and memory format of its operand."""
    channels_last = like.is_contiguous(memory_format=torch.channels_last)
    channels_last = channels_last and not like.is_contiguous()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=memory_format)


# ---- fakes: shapes and dtypes of the results without computing them; sizes may be symbolic


def _fake(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return torch.library.register_fake(f"dcnv2::{name}", lib=library)


def _fake_gradients(
    needs: Sequence[bool], operands: Sequence[Tensor | None], grad_output: Tensor
) -> tuple[Tensor, ...]:
    return tuple(
        grad_output.new_empty(0)
        if operand is None or not needed
        else empty_result(operand.shape, operand)
        for needed, operand in zip(needs, operands, strict=True)
    )


@_fake("deform_conv2d")
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
    add_translations()
    checks.check_deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation)
    size = (input.shape[0], weight.shape[0], offset.shape[2], offset.shape[3])
    return empty_result(size, input)


@_fake("deform_conv2d_backward")
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
    *wanted, needs_bias, needs_mask = needs
    *grads, grad_mask = _fake_gradients(
        [*wanted, needs_mask], (input, offset, weight, mask), grad_output
    )
    return *grads, weight.new_empty(weight.shape[0] if needs_bias else 0), grad_mask


@_fake("deform_roi_pool")
def _(
    input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None, *options: Any
) -> Tensor:
    add_translations()
    checks.check_deform_roi_pool(input, rois, offset, mask, *options)
    return empty_result((rois.shape[0], input.shape[1], *options[0]), input)


@_fake("deform_psroi_pool")
def _(
    input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None, *options: Any
) -> Tensor:
    add_translations()
    checks.check_deform_psroi_pool(input, rois, offset, mask, *options)
    size, _spatial_scale, group_size, *_ = options
    return empty_result((rois.shape[0], input.shape[1] // group_size**2, size, size), input)


@_fake("batched_nms")
def _(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, max_out: int
) -> tuple[Tensor, Tensor]:
    nms.check_batched_nms(boxes, scores, groups, iou_threshold, max_out)
    batch = boxes.shape[0]
    return groups.new_empty(batch, max_out), groups.new_empty(batch)


@_fake("deform_roi_pool_backward")
@_fake("deform_psroi_pool_backward")
def _(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    *options: Any,
) -> tuple[Tensor, ...]:
    return _fake_gradients(options[-1], (input, offset, mask), grad_output)


@_fake("multiscale_roi_align")
def _(inputs: Sequence[Tensor], rois: Tensor, levels: Tensor, *options: Any) -> Tensor:
    add_translations()
    multiscale_checks.check_multiscale_roi_align(inputs, rois, levels, *options)
    return empty_result((rois.shape[0], inputs[0].shape[1], *options[0]), inputs[0])


@_fake("multiscale_roi_align_backward")
def _(
    grad_output: Tensor, inputs: Sequence[Tensor], rois: Tensor, levels: Tensor, *options: Any
) -> list[Tensor]:
    return list(_fake_gradients(options[-1], inputs, grad_output))
