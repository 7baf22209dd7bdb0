# SPDX-License-Identifier: BSD-3-Clause
"""Both deformable RoI poolings in plain PyTorch: a loop over the samples of a bin.

They differ in where a bin's samples lie and in how they are counted, so each makes a `_Plan`; the
reading and the way back are one for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import bilinear
from .bilinear import Samples

# Elements of one sample over all bins that are worked on at once; see conv.py.
_CHUNK = 1 << 22
# Samples a side that an adaptive bin takes at most, so that an absurd box ends.
MAX_ADAPTIVE_SAMPLES = 1024


class _Plan(NamedTuple):
    """How some RoIs are pooled; K is the number of parts a table row is cut into."""

    samples: Callable[[], Iterator[Samples]]  # one for each sample of a bin, [R, ph, pw, K]
    count: Tensor  # samples that are averaged, at least 1, [R, 1 or ph, 1 or pw, 1 or K]
    scale_y: Tensor  # derivative of a sample's y by its offset, broadcast to [R, ph, pw, K]
    scale_x: Tensor


def _pool(table: Tensor, plan: _Plan) -> Tensor | None:
    """Return the mean sample of every bin, [R, ph, pw, K, C/K], or None where there are none."""
    total = None
    for samples in plan.samples():
        value = bilinear.interpolate(table, samples)
        total = value if total is None else total + value
    return None if total is None else total / plan.count.unsqueeze(-1)


def _pool_backward(
    table: Tensor, grad_table: Tensor | None, plan: _Plan, grad: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Add into `grad_table`; return the derivatives along offset y, offset x and mask.

    Args:
        grad: gradient of the masked bins, [R, ph, pw, K, C/K].
        mask: [R, ph, pw, 1].

    Returns:
        Three tensors [R, ph, pw, K]; the last one is still to be summed over K.
    """
    grad = grad / plan.count.unsqueeze(-1)
    along_y, along_x, along_value = (grad.new_zeros(grad.shape[:-1]) for _ in range(3))
    for samples in plan.samples():
        if grad_table is not None:
            bilinear.scatter(grad_table, samples, grad, mask)
        dots = bilinear.corner_dots(table, samples, grad)
        value, y, x = bilinear.dots_to_gradients(samples, dots)
        along_value, along_y, along_x = along_value + value, along_y + y, along_x + x
    if mask is not None:
        along_y, along_x = along_y * mask, along_x * mask
    return along_y * plan.scale_y, along_x * plan.scale_x, along_value


# ---- rois


def _image_and_corners(input: Tensor, rois: Tensor, spatial_scale: float):
    """Split `rois` into a table offset per image and corners; a RoI of no image becomes NaN."""
    rois = rois.to(bilinear.compute_dtype(input))
    image, corners = rois[:, 0], rois[:, 1:]
    valid = (image >= 0) & (image < input.shape[0]) & corners.isfinite().all(1)
    image = torch.where(valid, image, 0).long()
    corners = torch.where(valid.unsqueeze(1), corners, torch.nan)
    return image * (input.shape[2] * input.shape[3] + 1), corners


def _expand(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _bins(size: Sequence[int] | tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.arange(size[0], device=like.device, dtype=like.dtype).view(-1, 1, 1)
    return rows, torch.arange(size[1], device=like.device, dtype=like.dtype).view(-1, 1)


# ---- deform_roi_pool


class _RoiOptions(NamedTuple):
    output_size: Sequence[int]
    spatial_scale: float
    sampling_ratio: int
    gamma: float


def _sample_counts(size: Tensor, bins: int, ratio: int) -> Tensor:
    """Return how many samples a side of `size` [R] pixels takes in each of its bins."""
    if ratio > 0:
        return torch.full_like(size, ratio, dtype=torch.long)
    counts = (size / bins).ceil().clamp(0, MAX_ADAPTIVE_SAMPLES)
    return counts.nan_to_num(nan=1).long()


def _roi_plans(
    input: Tensor, rois: Tensor, offset: Tensor | None, options: _RoiOptions
) -> Iterator[tuple[Tensor, _Plan]]:
    """Yield runs of RoIs that take the same number of samples, as indices and a plan."""
    image, corners = _image_and_corners(input, rois, options.spatial_scale)
    corners = corners * options.spatial_scale - 0.5
    x0, y0, x1, y1 = corners.unbind(1)
    sizes = (y1 - y0, x1 - x0)
    counts = [
        _sample_counts(size, bins, options.sampling_ratio)
        for size, bins in zip(sizes, options.output_size, strict=True)
    ]
    if options.sampling_ratio > 0:
        groups = [(options.sampling_ratio, options.sampling_ratio)] if len(rois) else []
        member = torch.zeros_like(counts[0])
    else:
        groups, member = torch.stack(counts, 1).unique(dim=0, return_inverse=True)
        groups = groups.tolist()
    per_roi = max(1, input.shape[1] * options.output_size[0] * options.output_size[1])
    for number, (gh, gw) in enumerate(groups):
        for chosen in (member == number).nonzero().squeeze(1).split(max(1, _CHUNK // per_roi)):
            place = [_expand(t[chosen]) for t in (image, y0, x0, *sizes)]
            shift = None if offset is None else offset[chosen]
            yield chosen, _roi_plan(input, place, shift, (gh, gw), options)


def _roi_plan(
    input: Tensor,
    place: list[Tensor],
    offset: Tensor | None,
    counts: tuple[int, int],
    options: _RoiOptions,
) -> _Plan:
    image, y0, x0, roi_height, roi_width = place
    height, width = input.shape[2:]
    rows, columns = _bins(options.output_size, y0)
    bin_height = roi_height / options.output_size[0]
    bin_width = roi_width / options.output_size[1]
    y, x = y0 + rows * bin_height, x0 + columns * bin_width
    scale_y, scale_x = options.gamma * roi_height, options.gamma * roi_width
    if offset is not None:
        offset = offset.to(y0.dtype).unsqueeze(-1)
        x, y = x + scale_x * offset[:, 0], y + scale_y * offset[:, 1]
    y, x = torch.broadcast_tensors(y, x)

    def samples() -> Iterator[Samples]:
        for iy in range(counts[0]):
            sy = y + (iy + 0.5) * (bin_height / counts[0])
            for ix in range(counts[1]):
                sx = x + (ix + 0.5) * (bin_width / counts[1])
                keep = ~((sy < -1) | (sy > height) | (sx < -1) | (sx > width))
                found = bilinear.clamped_samples(sy, sx, height, width, keep)
                yield bilinear.shift_rows(found, image, 1, torch.zeros_like(image))

    count = torch.full_like(y0, max(counts[0] * counts[1], 1))
    return _Plan(samples, count, scale_y, scale_x)


def roi_forward(
    input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None, *options
) -> Tensor:
    """Return the pooled bins [R, C, ph, pw], as the schema of deform_roi_pool defines them."""
    options = _RoiOptions(*options)
    table = bilinear.make_table(input).flatten(0, 1)
    out = table.new_zeros(len(rois), *options.output_size, table.shape[1])
    for chosen, plan in _roi_plans(input, rois, offset, options):
        pooled = _pool(table, plan)
        if pooled is not None:
            out = out.index_put((chosen,), pooled.squeeze(-2))
    return _finish(out, mask, input)


def roi_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    *options,
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of input, offset and mask; None where not needed."""
    options = _RoiOptions(*options)
    table = bilinear.make_table(input)
    grad_table = torch.zeros_like(table) if needs[0] else None
    grad = grad_output.to(table.dtype).permute(0, 2, 3, 1).unsqueeze(-2)
    places = grad.new_zeros(2, *grad.shape[:-1])  # x, y as in the offsets
    values = grad.new_zeros(grad.shape[:-1])
    for chosen, plan in _roi_plans(input, rois, offset, options):
        m = None if mask is None else mask[chosen].to(table.dtype).permute(0, 2, 3, 1)
        flat = None if grad_table is None else grad_table.flatten(0, 1)
        y, x, value = _pool_backward(table.flatten(0, 1), flat, plan, grad[chosen], m)
        places[0, chosen], places[1, chosen], values[chosen] = x, y, value
    grad_offset = places.squeeze(-1).transpose(0, 1)
    return _gradients(grad_table, grad_offset, values, (input, offset, mask), needs)


# ---- deform_psroi_pool


class _PsroiOptions(NamedTuple):
    output_size: int
    spatial_scale: float
    group_size: int
    part_size: int
    sample_per_part: int
    trans_std: float


def _round(values: Tensor) -> Tensor:
    """Round halves away from zero, as C does."""
    return values.sign() * (values.abs() + 0.5).floor()


def _scaled_floor(size: int, to: int, device: torch.device) -> Tensor:
    """Return floor(bin * to / size) for every bin."""
    return torch.arange(size, device=device) * to // size


def _psroi_table(input: Tensor, group_size: int) -> Tensor:
    """Return a table [N, H*W + 1, G*G*O] whose rows are cut by cell of the group first."""
    cells = input.unflatten(1, (-1, group_size * group_size)).transpose(1, 2).flatten(1, 2)
    return bilinear.make_table(cells)


def _psroi_plans(
    input: Tensor, rois: Tensor, offset: Tensor | None, options: _PsroiOptions
) -> Iterator[tuple[slice, _Plan]]:
    """Yield runs of RoIs, as a slice and a plan."""
    per_roi = input.shape[1] // options.group_size**2 * options.output_size**2
    size = max(1, _CHUNK // max(1, per_roi))
    for start in range(0, len(rois), size):
        run = slice(start, min(start + size, len(rois)))
        yield run, _psroi_plan(input, rois[run], None if offset is None else offset[run], options)


def _psroi_plan(
    input: Tensor, rois: Tensor, offset: Tensor | None, options: _PsroiOptions
) -> _Plan:
    height, width = input.shape[2:]
    bins, per_part, group = options.output_size, options.sample_per_part, options.group_size
    image, corners = _image_and_corners(input, rois, options.spatial_scale)
    start = _round(corners[:, :2]) * options.spatial_scale - 0.5
    end = (_round(corners[:, 2:]) + 1) * options.spatial_scale - 0.5
    roi_width, roi_height = (_expand(t) for t in (end - start).clamp(min=0.1).unbind(1))
    bin_height, bin_width = roi_height / bins, roi_width / bins
    rows, columns = _bins((bins, bins), corners)
    y = rows * bin_height + _expand(start[:, 1])
    x = columns * bin_width + _expand(start[:, 0])
    classes = 1
    if offset is not None:
        classes = offset.shape[1] // 2
        part = _scaled_floor(bins, options.part_size, offset.device)
        shift = offset.to(y.dtype)[:, :, part[:, None], part] * options.trans_std
        shift = shift.unflatten(1, (classes, 2)).permute(2, 0, 3, 4, 1)
        x, y = x + shift[0] * roi_width, y + shift[1] * roi_height
    y, x = torch.broadcast_tensors(y, x)
    cell = _scaled_floor(bins, group, input.device)
    cell = (cell[:, None] * group + cell).unsqueeze(-1)
    lane = cell * classes + torch.arange(classes, device=input.device)

    def inside(sy: Tensor, sx: Tensor) -> Tensor:
        return ~((sy < -0.5) | (sy > height - 0.5) | (sx < -0.5) | (sx > width - 0.5))

    def grid() -> Iterator[tuple[Tensor, Tensor]]:
        for iy in range(per_part):
            for ix in range(per_part):
                yield y + iy * (bin_height / per_part), x + ix * (bin_width / per_part)

    def samples() -> Iterator[Samples]:
        for sy, sx in grid():
            found = bilinear.clamped_samples(sy, sx, height, width, inside(sy, sx))
            yield bilinear.shift_rows(found, _expand(image), group * group * classes, lane)

    count = sum(inside(sy, sx).to(y.dtype) for sy, sx in grid()).clamp(min=1)
    return _Plan(samples, count, options.trans_std * roi_height, options.trans_std * roi_width)


def _classes(offset: Tensor | None) -> int:
    return 1 if offset is None else offset.shape[1] // 2


def psroi_forward(
    input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None, *options
) -> Tensor:
    """Return the pooled bins [R, O, P, P], as the schema of deform_psroi_pool defines them."""
    options = _PsroiOptions(*options)
    out_channels = input.shape[1] // options.group_size**2
    table = _psroi_table(input, options.group_size).view(-1, out_channels // _classes(offset))
    pooled = [
        _pool(table, plan).flatten(-2) for _, plan in _psroi_plans(input, rois, offset, options)
    ]
    empty = table.new_zeros(0, options.output_size, options.output_size, out_channels)
    return _finish(torch.cat(pooled) if pooled else empty + table.sum() * 0, mask, input)


def psroi_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    *options,
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of input, offset and mask; None where not needed."""
    options = _PsroiOptions(*options)
    classes, bins = _classes(offset), options.output_size
    table = _psroi_table(input, options.group_size)
    grad_table = torch.zeros_like(table) if needs[0] else None
    lane = (-1, input.shape[1] // options.group_size**2 // classes)
    grad = grad_output.to(table.dtype).permute(0, 2, 3, 1).unflatten(-1, (classes, lane[1]))
    places = grad.new_zeros(2, *grad.shape[:-1])  # x, y as in the offsets
    values = grad.new_zeros(grad.shape[:-1])
    for run, plan in _psroi_plans(input, rois, offset, options):
        m = None if mask is None else mask[run].to(table.dtype).permute(0, 2, 3, 1)
        flat = None if grad_table is None else grad_table.view(lane)
        y, x, value = _pool_backward(table.view(lane), flat, plan, grad[run], m)
        places[0, run], places[1, run], values[run] = x, y, value
    grad_offset = None
    if needs[1]:
        # Every part gathers the bins that it moves: two small products with a 0/1 matrix.
        part = _scaled_floor(bins, options.part_size, input.device)
        moves = torch.eye(options.part_size, device=input.device, dtype=table.dtype)[part]
        places = places.permute(1, 4, 0, 2, 3).flatten(1, 2)
        grad_offset = moves.T @ places @ moves
    if grad_table is not None:
        grad_table = grad_table.unflatten(-1, (options.group_size**2, -1)).transpose(2, 3)
        grad_table = grad_table.flatten(2)
    return _gradients(grad_table, grad_offset, values, (input, offset, mask), needs)


# ---- both


def _finish(pooled: Tensor, mask: Tensor | None, input: Tensor) -> Tensor:
    if mask is not None:
        pooled = pooled * mask.to(pooled.dtype).permute(0, 2, 3, 1)
    return pooled.permute(0, 3, 1, 2).to(input.dtype)


def _gradients(
    grad_table: Tensor | None,
    grad_offset: Tensor | None,
    values: Tensor,
    operands: tuple[Tensor, Tensor | None, Tensor | None],
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    input, offset, mask = operands
    grad_input = grad_mask = None
    if needs[0]:
        grad_input = bilinear.untable(grad_table, *input.shape[2:]).to(input.dtype)
    if needs[1]:
        grad_offset = grad_offset.to(offset.dtype)
    if needs[2]:
        grad_mask = values.sum(-1).unsqueeze(1).to(mask.dtype)
    return grad_input, grad_offset if needs[1] else None, grad_mask
