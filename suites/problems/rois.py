# SPDX-License-Identifier: BSD-3-Clause
"""RoIs and offsets of pooling problems, and the bins in which rounding decides nothing.

Boxes are multiples of 1/4 image pixel, so they are the same numbers in every precision. Functions
of a `problem` take a `suites.problems.problem.RoIProblem`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import reference
from suites.problems.conv_offsets import EXTREME_VALUES, sprinkle

ROI_KINDS = ("inside", "whole", "border", "outside", "degenerate", "inverted", "huge", "halves")
POOL_OFFSETS = ("none", "zero", "small", "large", "far", "nan", "infinite")
_BAND = 1e-3  # pixels; float32 coordinates of these problems are good to 1e-4


def boxes(
    kinds: Sequence[str], batch: int, size: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """[R, 5] float64: batch index and corners in image pixels.

    Args:
        kinds: one of `ROI_KINDS` for each RoI.
        batch: the number of images.
        size: height and width of an image.
        generator: of random numbers.
    """

    def uniform(low: float, high: float) -> float:
        share = torch.rand((), generator=generator, dtype=torch.float64).item()
        return math.floor((low + (high - low) * share) * 4) / 4

    rows = []
    for kind in kinds:
        index = int(torch.randint(batch, (), generator=generator))
        (x1, x2), (y1, y2) = (_side(kind, extent, uniform) for extent in reversed(size))
        rows.append([float(index), x1, y1, x2, y2])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)


def _side(kind: str, size: float, uniform) -> tuple[float, float]:
    """Both ends of a RoI along one axis of an image of `size` pixels."""
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


def pool_offsets(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """[R, 2*classes, parts, parts] float64, multiples of 1/64; `kind` is one of `POOL_OFFSETS`."""
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    size = {"zero": 0.0, "small": 1.0, "large": 8.0, "far": 1e6}.get(kind, 1.0)
    values = (normal * size * 64).round() / 64
    extreme = EXTREME_VALUES.get(kind)
    return sprinkle(values, extreme, 20, generator) if extreme else values


def sample_points(problem, rois: Tensor, offset: Tensor | None, index: int):
    """Rows and columns of one RoI's samples, [classes, ph, pw, gh, gw] each, float64."""
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


def undecided_bins(problem) -> Tensor:
    """Bins [R, C, ph, pw] in which rounding decides on which side of a jump a sample is.

    Values jump where a sample leaves the map, derivatives at every pixel. A sample exactly there is
    decided if its coordinate is not rounded: bins, samples, scale and offsets are powers of two.
    """
    operands = problem.rounded()
    return undecided_among(problem, operands["rois"], operands["offset"])


def undecided_among(problem, rois: Tensor, offset: Tensor | None) -> Tensor:
    """`undecided_bins` of a problem with other RoIs, or other offsets."""
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


def _near_jump(place: Tensor, problem, size: int, exact: bool) -> Tensor:
    edge = 0.5 if problem.kind == "psroi" else 0.0
    jumps = [(place - place.round()).abs(), (place + edge).abs(), (place - size + edge).abs()]
    distance = torch.stack(jumps).amin(0)
    distance = torch.where((place < -1.5) | (place > size + 0.5), 1.0, distance)
    return (distance < _BAND) & ~(exact & (distance == 0))
