# SPDX-License-Identifier: BSD-3-Clause
"""Deformable convolution in plain PyTorch: a loop over the taps, a gather and a product for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import bilinear
from .bilinear import Samples

# Elements of one tap's samples that are worked on at once. Some six such tensors live at a time,
# so this is about 100 MiB; a batch that needs more is cut into runs of whole images.
_CHUNK = 1 << 22


class _Geometry(NamedTuple):
    kernel: tuple[int, int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    deform_groups: int
    groups: int


def _geometry(input, offset, weight, stride, padding, dilation) -> _Geometry:
    kernel = (weight.shape[2], weight.shape[3])
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
        y = base_y + offset[:, tap, 0].to(dtype)
        x = base_x + offset[:, tap, 1].to(dtype)
        samples = bilinear.zero_padded_samples(y, x, height, width)
        samples = bilinear.shift_rows(samples, image, groups, part)
        yield tap, samples, None if mask is None else mask[:, tap].to(dtype)


def _tap_weights(weight: Tensor, groups: int) -> Tensor:
    """Return `weight` [O, C/g, kh, kw] as one matrix a tap and group: [K, g, C/g, O/g]."""
    matrices = weight.to(bilinear.compute_dtype(weight)).flatten(2).unflatten(0, (groups, -1))
    return matrices.permute(3, 0, 2, 1)


def _by_group(pixels: Tensor, groups: int) -> Tensor:
    """View [..., C] as [g, pixels, C/g]."""
    return pixels.reshape(-1, groups, pixels.shape[-1] // groups).transpose(0, 1)


def _chunks(input: Tensor, offset: Tensor) -> list[slice]:
    batch, channels = input.shape[:2]
    per_image = max(1, channels * max(offset.shape[2] * offset.shape[3], 1))
    size = max(1, _CHUNK // per_image)
    return [slice(i, min(i + size, batch)) for i in range(0, batch, size)]


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
    matrices = _tap_weights(weight, geometry.groups)
    outputs = []
    for part in _chunks(input, offset):
        x, shift = input[part], offset[part]
        table = bilinear.make_table(x).view(-1, x.shape[1] // geometry.deform_groups)
        modulation = None if mask is None else mask[part]
        out = None
        for tap, samples, m in _taps(x, shift, modulation, geometry):
            value = bilinear.interpolate(table, samples)
            if m is not None:
                value = value * m.unsqueeze(-1)
            value = _by_group(value.flatten(-2), geometry.groups)
            term = torch.bmm(value, matrices[tap])
            out = term if out is None else out + term
        out = out.transpose(0, 1).reshape(x.shape[0], *offset.shape[2:], weight.shape[0])
        if bias is not None:
            out = out + bias.to(out.dtype)
        outputs.append(out.to(input.dtype))
    if not outputs:
        # A sum over nothing keeps the operands in the graph, so that their gradients are zeros.
        size = (*offset.shape[2:], weight.shape[0])
        operands = [t for t in (input, offset, weight, bias, mask) if t is not None]
        nothing = sum(t.sum() * 0 for t in operands).to(input.dtype)
        return (input.new_zeros(0, *size) + nothing).permute(0, 3, 1, 2)
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
    matrices = _tap_weights(weight, geometry.groups)
    needs_input, needs_offset, needs_weight, needs_bias, needs_mask = needs
    needs_mask = needs_mask and mask is not None
    taps = geometry.kernel[0] * geometry.kernel[1]
    grad_matrices = torch.zeros_like(matrices) if needs_weight else None
    grads = ([], [], [])  # of input, offset and mask, a chunk each
    for part in _chunks(input, offset):
        x, m = input[part], None if mask is None else mask[part]
        g = grad_output[part].to(matrices.dtype).permute(0, 2, 3, 1)
        chunk = _backward_chunk(
            g, x, offset[part], m, matrices, grad_matrices, geometry, needs_input,
            needs_offset or needs_mask,
        )  # fmt: skip
        for grad, parts in zip(chunk, grads, strict=True):
            parts.append(grad)
    grad_input = _join(grads[0], input) if needs_input else None
    grad_offset = _join(grads[1], offset) if needs_offset else None
    grad_mask = _join(grads[2], mask) if needs_mask else None
    grad_weight = grad_bias = None
    if needs_weight:
        size = (weight.shape[0] // geometry.groups, weight.shape[1], taps)
        grad_weight = grad_matrices.permute(1, 3, 2, 0).reshape(-1, *size[1:])
        grad_weight = grad_weight.view(weight.shape).to(weight.dtype)
    if needs_bias:
        grad_bias = grad_output.to(matrices.dtype).sum((0, 2, 3)).to(weight.dtype)
    return grad_input, grad_offset, grad_weight, grad_bias, grad_mask


def _join(parts: list[Tensor], like: Tensor) -> Tensor:
    return torch.cat(parts).to(like.dtype) if parts else torch.zeros_like(like)


def _backward_chunk(
    grad: Tensor,  # [N, Ho, Wo, O]
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    matrices: Tensor,  # [K, g, C/g, O/g]
    grad_matrices: Tensor | None,  # the same; added to
    geometry: _Geometry,
    needs_input: bool,
    needs_place: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, offset and mask for some images."""
    table = bilinear.make_table(input)
    grad_table = torch.zeros_like(table) if needs_input else None
    flat_size = (-1, input.shape[1] // geometry.deform_groups)
    flat = table.view(flat_size)
    g = _by_group(grad, geometry.groups)
    grad_offset, grad_mask = [], []
    for tap, samples, m in _taps(input, offset, mask, geometry):
        if grad_matrices is not None:
            value = bilinear.interpolate(flat, samples)
            value = value if m is None else value * m.unsqueeze(-1)
            grad_matrices[tap] += torch.bmm(_by_group(value.flatten(-2), geometry.groups).mT, g)
        if not (needs_input or needs_place):
            continue
        grad_value = torch.bmm(g, matrices[tap].mT).transpose(0, 1)
        grad_value = grad_value.reshape(*samples.ly.shape, flat.shape[1])
        if needs_input:
            bilinear.scatter(grad_table.view(flat_size), samples, grad_value, m)
        if needs_place:
            dots = bilinear.corner_dots(flat, samples, grad_value)
            value, along_y, along_x = bilinear.dots_to_gradients(samples, dots)
            place = torch.stack([along_y, along_x], dim=1)
            grad_offset.append(place if m is None else place * m.unsqueeze(1))
            grad_mask.append(value)
    grad_input = bilinear.untable(grad_table, *input.shape[2:]) if needs_input else None
    if not needs_place:
        return grad_input, None, None
    # [N, K, 2, Ho, Wo, G] to [N, G, K, 2, Ho, Wo]
    grad_offset = torch.stack(grad_offset, dim=1).permute(0, 5, 1, 2, 3, 4).flatten(1, 3)
    grad_mask = torch.stack(grad_mask, dim=1).permute(0, 4, 1, 2, 3).flatten(1, 2)
    return grad_input, grad_offset, grad_mask
