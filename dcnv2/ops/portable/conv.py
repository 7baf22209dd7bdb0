# SPDX-License-Identifier: BSD-3-Clause
"""Deformable convolution in plain PyTorch: tap by tap, a gather and a product for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import bilinear
from .bilinear import Samples

# Elements of one tap's samples that are worked on at once. Some six such tensors live at a time,
# so this is about 100 MiB; a batch that needs more is cut into slices of whole images.
_CHUNK = 1 << 22


class _Geometry(NamedTuple):
    kernel: tuple[int, int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    deform_groups: int
    groups: int


def _geometry(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> _Geometry:
    kernel = (int(weight.shape[2]), int(weight.shape[3]))  # loops need numbers, also when traced
    deform_groups = offset.shape[1] // (2 * kernel[0] * kernel[1])
    groups = input.shape[1] // weight.shape[1]
    return _Geometry(kernel, stride, padding, dilation, deform_groups, groups)


def _taps(
    input: Tensor, offset: Tensor, mask: Tensor | None, geometry: _Geometry
) -> Iterator[tuple[int, Samples, Tensor | None]]:
    """Yield every tap's number, samples and modulation, each of them [N, Ho, Wo, G]."""
    batch, _, height, width = input.shape
    (kh, kw), groups = geometry.kernel, geometry.deform_groups
    dtype, device = bilinear.compute_dtype(input), input.device
    out_height, out_width = offset.shape[2:]
    offset = offset.unflatten(1, (groups, kh * kw, 2)).permute(0, 2, 3, 4, 5, 1)
    if mask is not None:
        mask = mask.unflatten(1, (groups, kh * kw)).permute(0, 2, 3, 4, 1)
    rows = torch.arange(out_height, device=device, dtype=dtype).view(-1, 1, 1)
    columns = torch.arange(out_width, device=device, dtype=dtype).view(-1, 1)
    image = torch.arange(batch, device=device).view(-1, 1, 1, 1) * (height * width + 1)
    part = torch.arange(groups, device=device)
    for tap in range(kh * kw):
        i, j = divmod(tap, kw)
        base_y = rows * geometry.stride[0] + (i * geometry.dilation[0] - geometry.padding[0])
        base_x = columns * geometry.stride[1] + (j * geometry.dilation[1] - geometry.padding[1])
        dy, dx = (offset[:, tap, axis].to(dtype) for axis in (0, 1))
        samples = bilinear.zero_padded_samples(base_y, base_x, dy, dx, height, width)
        samples = bilinear.shift_rows(samples, image, groups, part)
        yield tap, samples, None if mask is None else mask[:, tap].to(dtype)


def _tap_matrices(weight: Tensor, groups: int) -> Tensor:
    """Return `weight` [O, C/g, kh, kw] as one matrix a tap and group: [K, g, C/g, O/g]."""
    matrices = weight.to(bilinear.compute_dtype(weight)).flatten(2).unflatten(0, (groups, -1))
    return matrices.permute(3, 0, 2, 1)


def _by_group(pixels: Tensor, groups: int) -> Tensor:
    """View pixels [N, Ho, Wo, C] as [g, N*Ho*Wo, C/g]."""
    return pixels.flatten(0, 2).unflatten(1, (groups, -1)).transpose(0, 1)


def _ungroup(groups: Tensor, size: Sequence[int]) -> Tensor:
    """Undo `_by_group` for N, Ho, Wo = size."""
    return groups.transpose(0, 1).flatten(1).unflatten(0, tuple(size))


def _chunks(input: Tensor, offset: Tensor) -> list[slice]:
    """Cut the batch into slices of bounded work; an empty batch has one empty slice."""
    batch, channels = input.shape[:2]
    size = max(1, _CHUNK // int(channels * offset.shape[2] * offset.shape[3]))
    return [slice(i, min(i + size, batch)) for i in range(0, max(int(batch), 1), size)]


def forward(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Return the convolution [N, O, Ho, Wo] (channels last in memory), as the schema defines it."""
    geometry = _geometry(input, offset, weight, stride, padding, dilation)
    matrices = _tap_matrices(weight, geometry.groups)
    outputs = []
    for run in _chunks(input, offset):
        modulation = None if mask is None else mask[run]
        table = bilinear.cut_rows(bilinear.make_table(input[run]), geometry.deform_groups)
        out = None
        for tap, samples, m in _taps(input[run], offset[run], modulation, geometry):
            value = bilinear.blend(bilinear.read(table, samples), samples, m)
            value = _by_group(value.flatten(-2), geometry.groups)
            term = torch.bmm(value, matrices[tap])
            out = term if out is None else out + term
        assert out is not None  # a kernel has a tap
        out = _ungroup(out, samples.ly.shape[:3])
        if bias is not None:
            out = out + bias.to(out.dtype)
        outputs.append(out.to(input.dtype))
    out = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return out.permute(0, 3, 1, 2)


def backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of input, offset, weight, bias and mask; None where not needed."""
    geometry = _geometry(input, offset, weight, stride, padding, dilation)
    needs_input, needs_offset, needs_weight, needs_bias, needs_mask = needs
    needs_mask = needs_mask and mask is not None
    matrices = _tap_matrices(weight, geometry.groups)
    grad_matrices = torch.zeros_like(matrices) if needs_weight else None
    chunks = []
    if needs_input or needs_offset or needs_weight or needs_mask:
        for run in _chunks(input, offset):
            operands = input[run], offset[run], None if mask is None else mask[run]
            grad = grad_output[run].to(matrices.dtype).permute(0, 2, 3, 1)
            places = needs_offset or needs_mask
            chunks.append(
                _backward_run(
                    grad, operands, matrices, grad_matrices, geometry, needs_input, places
                )
            )
    grad_weight = grad_bias = None
    if grad_matrices is not None:
        grad_weight = grad_matrices.permute(1, 3, 2, 0).flatten(0, 1)
        grad_weight = grad_weight.unflatten(2, geometry.kernel).to(weight.dtype)
    if needs_bias:
        grad_bias = grad_output.to(matrices.dtype).sum((0, 2, 3)).to(weight.dtype)
    inputs, offsets, masks = ([chunk[which] for chunk in chunks] for which in range(3))
    return (
        _join(inputs, input) if needs_input else None,
        _join(offsets, offset) if needs_offset else None,
        grad_weight,
        grad_bias,
        _join(masks, mask) if needs_mask else None,
    )


def _join(parts: Sequence[Tensor | None], operand: Tensor | None) -> Tensor | None:
    """Join the gradients of slices of the batch, in their operand's dtype."""
    found = [part for part in parts if part is not None]
    return None if operand is None else torch.cat(found).to(operand.dtype)


_BLOCK_PIXELS = 128
_BLOCKS_AT_ONCE = 32  # bounds the memory for partial sums


def _sum_over_pixels(value: Tensor, grad: Tensor) -> Tensor:
    """Return value^T grad, with the same bits for any number of threads.

    A matrix product may split a long sum over threads, and then the order of the additions depends
    on their number. So pixels are summed in blocks too short to be split, and the blocks in order.

    Args:
        value: [g, P, C/g].
        grad: [g, P, O/g].

    Returns:
        [g, C/g, O/g].
    """
    pixels = value.shape[1]
    whole = pixels // _BLOCK_PIXELS * _BLOCK_PIXELS
    total = torch.bmm(value[:, whole:].mT, grad[:, whole:])
    step = _BLOCK_PIXELS * _BLOCKS_AT_ONCE
    for start in range(0, whole, step):
        here = slice(start, min(start + step, whole))
        values = value[:, here].unflatten(1, (-1, _BLOCK_PIXELS))
        grads = grad[:, here].unflatten(1, (-1, _BLOCK_PIXELS))
        for block in torch.matmul(values.mT, grads).unbind(1):
            total += block
    return total


def _backward_run(
    grad: Tensor,  # [N, Ho, Wo, O]
    operands: tuple[Tensor, Tensor, Tensor | None],
    matrices: Tensor,  # [K, g, C/g, O/g]
    grad_matrices: Tensor | None,  # the same; added to
    geometry: _Geometry,
    needs_input: bool,
    needs_places: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, offset and mask for a run of images."""
    input, offset, mask = operands
    full = bilinear.make_table(input)
    table = bilinear.cut_rows(full, geometry.deform_groups)
    grad_full = torch.zeros_like(full) if needs_input else None
    size = grad.shape[:3]
    grad = _by_group(grad, geometry.groups)
    offsets: list[Tensor] = []
    values: list[Tensor] = []
    for tap, samples, m in _taps(input, offset, mask, geometry):
        corners = bilinear.read(table, samples)
        if grad_matrices is not None:
            value = bilinear.blend(corners, samples, m).flatten(-2)
            grad_matrices[tap] += _sum_over_pixels(_by_group(value, geometry.groups), grad)
        if not (needs_input or needs_places):
            continue
        grad_value = _ungroup(torch.bmm(grad, matrices[tap].mT), size)
        grad_value = grad_value.unflatten(-1, (geometry.deform_groups, -1))
        if grad_full is not None:
            grad_table = bilinear.cut_rows(grad_full, geometry.deform_groups)
            bilinear.scatter(grad_table, samples, grad_value, m)
        if needs_places:
            value, along_y, along_x = bilinear.slopes(corners, samples, grad_value)
            place = torch.stack([along_y, along_x], dim=1)
            offsets.append(place if m is None else place * m.unsqueeze(1))
            values.append(value)
    grad_input = None if grad_full is None else bilinear.untable(grad_full, *input.shape[2:])
    if not needs_places:
        return grad_input, None, None
    # from [N, K, 2, Ho, Wo, G] and [N, K, Ho, Wo, G]
    grad_offset = torch.stack(offsets, dim=1).permute(0, 5, 1, 2, 3, 4).flatten(1, 3)
    grad_mask = torch.stack(values, dim=1).permute(0, 4, 1, 2, 3).flatten(1, 2)
    return grad_input, grad_offset, grad_mask
