# SPDX-License-Identifier: BSD-3-Clause
"""RoIAlign from the maps of a pyramid, in plain PyTorch: one table holds the rows of all maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from . import bilinear, pool, roi_pool


class Options(NamedTuple):
    """The numbers, in the schema's order."""

    output_size: Sequence[int]
    spatial_scales: Sequence[float]
    sampling_ratio: int
    aligned: bool


def _rows(inputs: Sequence[Tensor]) -> list[int]:
    """Return how many rows of the table each map has."""
    return [x.shape[0] * (x.shape[2] * x.shape[3] + 1) for x in inputs]


def _boxes(
    inputs: Sequence[Tensor], rois: Tensor, levels: Tensor, options: Options
) -> roi_pool.Boxes:
    rois = rois.to(bilinear.compute_dtype(inputs[0]))
    image, corners = rois[:, 0], rois[:, 1:]
    valid = (image >= 0) & (image < inputs[0].shape[0]) & corners.isfinite().all(1)
    valid = valid & (levels >= 0) & (levels < len(inputs))

    def of_level(values: Sequence[float], like: Tensor) -> Tensor:
        found = torch.full_like(like, values[0])
        for level, value in enumerate(values):
            found = torch.where(levels == level, value, found)
        return found

    scale = of_level(options.spatial_scales, image)
    height, width = (of_level([x.shape[axis] for x in inputs], levels) for axis in (2, 3))
    first = of_level([0, *accumulate(_rows(inputs)[:-1])], levels)
    first = first + torch.where(valid, image, 0).long() * (height * width + 1)
    shift = 0.5 if options.aligned else 0.0
    corners = torch.where(valid.unsqueeze(1), corners, torch.nan) * scale.unsqueeze(1) - shift
    size = corners[:, 2:] - corners[:, :2]
    if not options.aligned:
        size = torch.where(size < 1, 1, size)  # unlike clamp this lets NaN through
    columns = (first, corners[:, 1], corners[:, 0], size[:, 1], size[:, 0], height, width)
    return roi_pool.Boxes(*(column.view(-1, 1, 1, 1) for column in columns))


def _plan(
    inputs: Sequence[Tensor], rois: Tensor, levels: Tensor, options: Options
) -> pool.PoolPlan:
    boxes = _boxes(inputs, rois, levels, options)
    return roi_pool.make_plan(boxes, None, options.output_size, options.sampling_ratio, 0.0)


def _table(inputs: Sequence[Tensor]) -> Tensor:
    return torch.cat([bilinear.make_table(x).flatten(0, 1) for x in inputs])


def forward(inputs: Sequence[Tensor], rois: Tensor, levels: Tensor, options: Options) -> Tensor:
    """Return the pooled bins [R, C, ph, pw], as the schema of multiscale_roi_align defines them."""
    table = _table(inputs)
    bins = (*options.output_size, 1, table.shape[1])
    pooled = []
    for rows in pool.roi_slices(rois, bins[0] * bins[1] * bins[3]):
        plan = _plan(inputs, rois[rows], levels[rows], options)
        pooled.append(pool.pool(table, plan, (rois[rows].shape[0], *bins)))
    padding = (levels < 0).view(-1, 1, 1, 1)
    return torch.where(padding, 0, pool.finish(torch.cat(pooled), None, inputs[0]))


def backward(
    grad_output: Tensor,
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    options: Options,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradient of each input; None where not needed."""
    rows_of = _rows(inputs)
    dtype = bilinear.compute_dtype(inputs[0])
    # Made from grad_output, so that it has the dimension that vmap may have given that.
    table = grad_output.new_zeros(sum(rows_of), inputs[0].shape[1], dtype=dtype)
    grad = grad_output.to(dtype).permute(0, 2, 3, 1).unsqueeze(3)  # [R, ph, pw, 1, C]
    for rows in pool.roi_slices(rois, grad_output.shape[1:].numel()):
        plan = _plan(inputs, rois[rows], levels[rows], options)
        share = grad[rows] / plan.divisor.unsqueeze(-1)
        for samples, chosen in plan.samples():
            bilinear.scatter(table, samples, share if chosen is None else share[chosen], None)
    return [
        _gradient(part, x) if needed else None
        for part, x, needed in zip(table.split(rows_of), inputs, needs, strict=True)
    ]


def _gradient(rows: Tensor, x: Tensor) -> Tensor:
    """The gradient of a map from its rows of the table; of views that vmap has rules for."""
    images, channels, height, width = x.shape
    pixels = rows.view(images, height * width + 1, channels)[:, : height * width]
    return pixels.transpose(1, 2).reshape(x.shape).to(x.dtype)
