# SPDX-License-Identifier: BSD-3-Clause
"""Regions, and offsets of their bins, for pooling problems; and which bins are decided.

Boxes are multiples of 1/4 image pixel, so that every precision agrees on them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import reference

if TYPE_CHECKING:
    from suites.problems.problem import RoIProblem

ROI_KINDS = ("inside", "whole", "border", "outside", "degenerate", "inverted", "huge", "halves")
POOL_OFFSETS = ("none", "zero", "small", "large", "far", "nan", "infinite")
_BAND = 1e-3  # pixels; float32 coordinates of these problems are good to 1e-4


def boxes(problem: RoIProblem) -> Tensor:
    """[R, 5] float64: batch index and corners in image pixels."""
    generator = problem.generator("rois")

    def uniform(low: float, high: float) -> float:
        share = torch.rand((), generator=generator, dtype=torch.float64).item()
        return math.floor((low + (high - low) * share) * 4) / 4

    rows = []
    for kind in problem.rois:
        batch = int(torch.randint(problem.batch, (), generator=generator))
        across = [
            _side(kind, size / problem.scale, uniform) for size in (problem.width, problem.height)
        ]
        (x1, x2), (y1, y2) = across
        rows.append([float(batch), x1, y1, x2, y2])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)


def _side(kind: str, size: float, uniform) -> tuple[float, float]:
    """Both ends of a region along one axis of an image of `size` pixels."""
    start = uniform(0, 0.6 * size)
    if kind == "inside":
        return start, uniform(start + 0.2 * size, size)
    if kind == "whole":
        return 0.0, size
    if kind == "border":
        return uniform(-0.6 * size, -0.1 * size), uniform(0.3 * size, 1.4 * size)
    if kind == "outside":
        return uniform(2 * size + 8, 3 * size + 8), uniform(3 * size + 9, 4 * size + 9)
    if kind == "degenerate":
        return start, start
    if kind == "inverted":
        return uniform(0.6 * size, size), start
    if kind == "huge":
        return uniform(-4 * size, -3 * size), uniform(4 * size, 5 * size)
    return math.floor(start) - 1.5, math.floor(start + 0.4 * size) + 0.5  # halves


def pool_offsets(problem: RoIProblem) -> Tensor:
    """[R, 2*classes, parts, parts] float64, multiples of 1/64."""
    generator = problem.generator("offset")
    shape = (len(problem.rois), 2 * problem.classes, *problem.parts)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    size = {"zero": 0.0, "small": 1.0, "large": 8.0, "far": 1e6}.get(problem.offsets, 1.0)
    values = (normal * size * 64).round() / 64
    extreme = {"nan": [math.nan], "infinite": [math.inf, -math.inf]}.get(problem.offsets)
    if extreme and values.numel():
        flat = values.flatten()
        count = max(1, flat.numel() // 20)
        where = torch.randint(flat.numel(), (count,), generator=generator)
        which = torch.randint(len(extreme), (count,), generator=generator)
        flat[where] = torch.tensor(extreme, dtype=torch.float64)[which]
        values = flat.view(shape)
    return values


def sample_points(problem: RoIProblem, rois: Tensor, offset: Tensor | None, index: int):
    """Rows and columns of one region's samples, [classes, ph, pw, gh, gw] each, float64."""
    shift = None if offset is None else offset[index]
    options = problem.options()
    scale, bins = options["spatial_scale"], problem.bins
    if problem.kind == "roi":
        y, x = reference.roi_points(
            rois[index], shift, bins, scale, problem.samples, problem.offset_scale
        )
        y, x = y[None], x[None]
    else:
        part = problem.part_size or bins[0]
        y, x = reference.psroi_points(
            rois[index], shift, bins[0], scale, part, problem.samples, problem.offset_scale
        )
    shape = torch.broadcast_shapes(y.shape, x.shape)
    return y.expand(shape), x.expand(shape)


def undecided_bins(problem: RoIProblem) -> Tensor:
    """Bins [R, C, ph, pw] in which rounding decides on which side of a jump a sample falls.

    Values jump where a sample leaves the map, derivatives at every pixel. A sample exactly there is
    decided if its coordinate has no rounding: bins, samples, scale and offsets in powers of two.
    """
    operands = problem.rounded()
    return undecided_among(problem, operands["rois"], operands["offset"])


def undecided_among(problem: RoIProblem, rois: Tensor, offset: Tensor | None) -> Tensor:
    """`undecided_bins` of a problem with other regions, or other offsets."""
    whole = [problem.bins[0], problem.bins[1], max(problem.samples, 1)]
    if offset is not None and problem.offsets != "zero":
        whole.append(round(1 / problem.offset_scale))
    exact = all(n & (n - 1) == 0 for n in whole) and problem.samples > 0
    undecided = torch.zeros(len(rois), *problem.output_shape()[1:], dtype=torch.bool)
    for index in range(len(rois)):
        y, x = sample_points(problem, rois, offset, index)
        smallest = min(rois[index, 3] - rois[index, 1], rois[index, 4] - rois[index, 2])
        sure = exact and (problem.kind == "roi" or smallest >= 0)
        near = _near_jump(y, problem, problem.height, sure)
        near |= _near_jump(x, problem, problem.width, sure)
        near = near.flatten(3).any(3)  # [classes, ph, pw]
        undecided[index] = near.repeat_interleave(problem.channels // len(near), 0)
    return undecided


def _near_jump(place: Tensor, problem: RoIProblem, size: int, exact: bool) -> Tensor:
    edge = 0.5 if problem.kind == "psroi" else 0.0
    jumps = [(place - place.round()).abs(), (place + edge).abs(), (place - size + edge).abs()]
    distance = torch.stack(jumps).amin(0)
    distance = torch.where((place < -1.5) | (place > size + 0.5), 1.0, distance)
    return (distance < _BAND) & ~(exact & (distance == 0))
