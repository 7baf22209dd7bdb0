# SPDX-License-Identifier: BSD-3-Clause
"""Deformable RoI pooling on RoIAlign's samples, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import bilinear, pool
from .bilinear import Samples

# An adaptive bin of more samples a side belongs to an invalid box, and takes none.
_MOST_SAMPLES = 1 << 16


class Options(NamedTuple):
    """The numbers, in the schema's order."""

    output_size: Sequence[int]
    spatial_scale: float
    sampling_ratio: int
    gamma: float


class Boxes(NamedTuple):
    """Boxes in pixels of the maps that they lie on, each [R, 1, 1, 1]; NaN for none."""

    first: Tensor  # the table row at which the image begins
    y: Tensor
    x: Tensor
    height: Tensor
    width: Tensor
    map_height: Tensor
    map_width: Tensor


def _plan(input: Tensor, rois: Tensor, offset: Tensor | None, options: Options) -> pool.PoolPlan:
    first, *corners = pool.split_rois(input, rois)
    x0, y0, x1, y1 = (corner * options.spatial_scale - 0.5 for corner in corners)
    sizes = (torch.full_like(first, size) for size in input.shape[2:])
    boxes = Boxes(first, y0, x0, y1 - y0, x1 - x0, *sizes)
    return make_plan(boxes, offset, options.output_size, options.sampling_ratio, options.gamma)


def make_plan(
    boxes: Boxes,
    offset: Tensor | None,
    output_size: Sequence[int],
    sampling_ratio: int,
    gamma: float,
) -> pool.PoolPlan:
    """Plan the pooling of boxes on RoIAlign's samples."""
    scale_y, scale_x = gamma * boxes.height, gamma * boxes.width
    rows, columns = pool.bin_numbers(output_size, boxes.y)
    bin_height = boxes.height / output_size[0]
    bin_width = boxes.width / output_size[1]
    y0, x0 = boxes.y, boxes.x
    if offset is not None:
        offset = offset.to(y0.dtype).unsqueeze(-1)
        y0, x0 = y0 + scale_y * offset[:, 1], x0 + scale_x * offset[:, 0]
    y, x = torch.broadcast_tensors(y0 + rows * bin_height, x0 + columns * bin_width)
    gh = _sample_counts(bin_height, sampling_ratio)
    gw = _sample_counts(bin_width, sampling_ratio)

    def samples() -> Iterator[tuple[Samples, Tensor | None]]:
        for iy, ix, chosen in _grid(gh, gw, sampling_ratio):
            sy, sx = y + (iy + 0.5) * (bin_height / gh), x + (ix + 0.5) * (bin_width / gw)
            first, height, width = boxes.first, boxes.map_height, boxes.map_width
            if chosen is not None:
                sy, sx = sy[chosen], sx[chosen]
                first, height, width = first[chosen], height[chosen], width[chosen]
            keep = ~((sy < -1) | (sy > height) | (sx < -1) | (sx > width))
            found = bilinear.clamped_samples(sy, sx, height, width, keep)
            yield bilinear.shift_rows(found, first, 1, torch.zeros_like(first)), chosen

    return pool.PoolPlan(samples, (gh * gw).clamp(min=1), scale_y, scale_x)


def _sample_counts(size: Tensor, ratio: int) -> Tensor:
    """Return the samples a side [R, 1, 1, 1] of bins that are `size` pixels long."""
    if ratio > 0:
        return torch.full_like(size, ratio)
    counts = size.detach().ceil().clamp(min=0).nan_to_num(nan=1)
    return torch.where(counts > _MOST_SAMPLES, 0, counts)


def _grid(gh: Tensor, gw: Tensor, ratio: int) -> Iterator[tuple[int, int, Tensor | None]]:
    """Yield the numbers of all samples of a bin, with the RoIs that take them."""
    if ratio > 0:
        yield from ((iy, ix, None) for iy in range(ratio) for ix in range(ratio))
        return
    counts = torch.stack([gh.flatten(), gw.flatten()]).to("cpu", torch.long)
    for iy in range(int(counts[0].max()) if counts.numel() else 0):
        tall = counts[0] > iy
        for ix in range(int(counts[1][tall].max())):
            chosen = (tall & (counts[1] > ix)).nonzero().squeeze(1)
            yield iy, ix, chosen.to(gh.device)


def forward(
    input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None, options: Options
) -> Tensor:
    """Return the pooled bins [R, C, ph, pw], as the schema of deform_roi_pool defines them."""
    table = bilinear.make_table(input).flatten(0, 1)
    bins = (*options.output_size, 1, input.shape[1])
    pooled = []
    for rows in pool.roi_slices(rois, bins[0] * bins[1] * bins[3]):
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
    table = bilinear.make_table(input)
    grad_table = torch.zeros_like(table) if needs[0] else None
    flat = None if grad_table is None else grad_table.flatten(0, 1)
    grad, m = pool.as_bins(grad_output, mask, table.dtype, 1)
    parts = []
    for rows in pool.roi_slices(rois, grad_output.shape[1:].numel()):
        plan = _plan(input, rois[rows], None if offset is None else offset[rows], options)
        bins_mask = None if m is None else m[rows]
        parts.append(pool.pool_backward(table.flatten(0, 1), flat, plan, grad[rows], bins_mask))
    grads = torch.cat(parts, dim=1)
    grad_offset = grads[:2].squeeze(-1).transpose(0, 1)
    return pool.select(needs, (input, offset, mask), grad_table, grad_offset, grads[2])
