# SPDX-License-Identifier: BSD-3-Clause
"""Deformable position-sensitive RoI pooling, as the authors' operator, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from . import bilinear, pool
from .bilinear import Samples


class Options(NamedTuple):
    """The numbers, in the schema's order."""

    output_size: int
    spatial_scale: float
    group_size: int
    part_size: int
    sample_per_part: int
    trans_std: float


def _round(values: Tensor) -> Tensor:
    """Round halves away from zero, as C does."""
    return values.sign() * (values.abs() + 0.5).floor()


def _scaled_bins(bins: int, to: int, like: Tensor) -> Tensor:
    """Return floor(bin / bins * to) for every bin."""
    return torch.arange(bins, device=like.device) * to // bins


def _classes(offset: Tensor | None) -> int:
    return 1 if offset is None else offset.shape[1] // 2


def _table(input: Tensor, group_size: int) -> Tensor:
    """Return a table [N, H*W + 1, G*G*O]: the channels of one cell of the group together."""
    cells = input.unflatten(1, (-1, group_size * group_size)).transpose(1, 2)
    return bilinear.make_table(cells.flatten(1, 2))


def _plan(input: Tensor, rois: Tensor, offset: Tensor | None, options: Options) -> pool.PoolPlan:
    height, width = input.shape[2:]
    bins, per_part, group = options.output_size, options.sample_per_part, options.group_size
    image, x1, y1, x2, y2 = pool.split_rois(input, rois)
    x, y = (_round(start) * options.spatial_scale - 0.5 for start in (x1, y1))
    roi_width, roi_height = (
        ((_round(end) + 1) * options.spatial_scale - 0.5 - start).clamp(min=0.1)
        for start, end in ((x, x2), (y, y2))
    )
    bin_height, bin_width = roi_height / bins, roi_width / bins
    scale_y, scale_x = options.trans_std * roi_height, options.trans_std * roi_width
    classes = _classes(offset)
    if offset is not None:
        part = _scaled_bins(bins, options.part_size, offset)
        shift = offset.to(y.dtype)[:, :, part[:, None], part].unflatten(1, (classes, 2))
        shift_x, shift_y = shift.permute(2, 0, 3, 4, 1)
        y, x = y + scale_y * shift_y, x + scale_x * shift_x
    rows, columns = pool.bin_numbers((bins, bins), y)
    y, x = torch.broadcast_tensors(y + rows * bin_height, x + columns * bin_width)
    cell = _scaled_bins(bins, group, y)
    lane = (cell[:, None] * group + cell).unsqueeze(-1) * classes
    lane = lane + torch.arange(classes, device=y.device)

    def grid() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for number in range(per_part * per_part):
            iy, ix = divmod(number, per_part)
            sy, sx = y + iy * (bin_height / per_part), x + ix * (bin_width / per_part)
            outside = (sy < -0.5) | (sy > height - 0.5) | (sx < -0.5) | (sx > width - 0.5)
            yield sy, sx, ~outside

    def samples() -> Iterator[tuple[Samples, Tensor | None]]:
        for sy, sx, inside in grid():
            found = bilinear.clamped_samples(sy, sx, height, width, inside)
            yield bilinear.shift_rows(found, image, group * group * classes, lane), None

    count = reduce(torch.add, (inside.to(y.dtype) for _, _, inside in grid())).clamp(min=1)
    return pool.PoolPlan(samples, count, scale_y, scale_x)


def forward(
    input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None, options: Options
) -> Tensor:
    """Return the pooled bins [R, O, P, P], as the schema of deform_psroi_pool defines them."""
    cells, classes = options.group_size**2, _classes(offset)
    table = bilinear.cut_rows(_table(input, options.group_size), cells * classes)
    bins = (options.output_size, options.output_size, classes, table.shape[1])
    pooled = []
    for rows in pool.roi_slices(rois, options.output_size**2 * classes * table.shape[1]):
        plan = _plan(input, rois[rows], None if offset is None else offset[rows], options)
        pooled.append(pool.pool(table, plan, (rois[rows].shape[0], *bins)))
    return pool.finish(torch.cat(pooled), mask, input)


def backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    options: Options,
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of input, offset and mask; None where not needed."""
    cells, classes = options.group_size**2, _classes(offset)
    table = _table(input, options.group_size)
    grad_table = torch.zeros_like(table) if needs[0] else None
    lanes = None if grad_table is None else bilinear.cut_rows(grad_table, cells * classes)
    grad, m = pool.as_bins(grad_output, mask, table.dtype, classes)
    parts = []
    for rows in pool.roi_slices(rois, grad_output.shape[1] * options.output_size**2):
        plan = _plan(input, rois[rows], None if offset is None else offset[rows], options)
        bins_mask = None if m is None else m[rows]
        cut = bilinear.cut_rows(table, cells * classes)
        parts.append(pool.pool_backward(cut, lanes, plan, grad[rows], bins_mask))
    grads = torch.cat(parts, dim=1)
    grad_offset = None
    if needs[1]:
        grad_offset = _gather_parts(grads[:2], options.part_size)
    if grad_table is not None:  # back from [cell, O] to [O, cell]
        grad_table = grad_table.unflatten(-1, (cells, -1)).transpose(2, 3).flatten(2)
    return pool.select(needs, (input, offset, mask), grad_table, grad_offset, grads[2])


def _gather_parts(places: Tensor, part_size: int) -> Tensor:
    """Sum gradients of bins' offsets [2, R, P, P, K] to those of their parts [R, 2*K, part, part].

    The sum has a fixed order on every device; parts that move no bin get zero.
    """
    _, rois, bins, _, classes = places.shape
    part = _scaled_bins(bins, part_size, places)
    total = places.new_zeros(part_size, part_size, rois, classes, 2)
    bins_first = places.permute(2, 3, 1, 4, 0)
    total.index_put_((part[:, None], part), bins_first, accumulate=True)
    return total.flatten(3).permute(2, 3, 0, 1)
