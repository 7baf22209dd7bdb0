# SPDX-License-Identifier: BSD-3-Clause
"""Offsets of every kind that a convolution may meet.

Finite offsets are multiples of 2^-16 (coarser where a half type rounds them), so on images of less
than 128 pixels a coordinate is the same number in float32 and in float64, in whatever order it is
added up. A derivative jumps at integers: no rounding may decide on which side a sample lies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from suites.problems.problem import ConvProblem

GRID = 2.0**-16
OFFSETS = (
    "zero",
    "tiny",
    "small",
    "smooth",
    "large",
    "integer",
    "kink",
    "far",
    "nan",
    "infinite",
    "out_of_range",
)
NEAR_KINK = 2.0**-10


def on_grid(values: Tensor) -> Tensor:
    """The nearest multiples of `GRID`."""
    return (values / GRID).round() * GRID


def conv_offsets(problem: ConvProblem) -> Tensor:
    """Offsets [N, G*K*2, Ho, Wo] of the problem's kind, float64."""
    shape, kind = problem.offset_shape, problem.offsets
    generator = problem.generator("offset")
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "zero":
        return torch.zeros(shape, dtype=torch.float64)
    if kind == "tiny":
        return on_grid(normal * 2.0**-10)
    if kind == "small":
        return on_grid(normal * 1.3)
    if kind == "smooth":  # coordinates 0.1 to 0.9 behind a pixel, so that nothing has a kink near
        share = torch.rand(shape, generator=generator, dtype=torch.float64)
        return on_grid(torch.randint(-2, 3, shape, generator=generator) + 0.1 + 0.8 * share)
    if kind == "large":
        return on_grid(normal * 0.7 * max(problem.height, problem.width))
    if kind == "integer":
        return torch.randint(-3, 4, shape, generator=generator).double()
    if kind == "kink":
        return _at_kinks(problem, generator)
    if kind in ("clustered", "clustered_2x2"):
        # Everything is sampled near the middle of the image: in one cell, or in the four around it
        zeros = torch.zeros(shape, dtype=torch.float64)
        middles = (problem.height // 2, problem.width // 2)
        bases = zip(middles, problem.points(zeros), strict=True)
        share = torch.rand(shape, generator=generator, dtype=torch.float64)
        place = torch.stack([middle - base for middle, base in bases], 3).reshape(shape)
        return on_grid(place + (0.9 * share if kind == "clustered" else 1.8 * share - 0.9))
    if kind == "far":
        return on_grid(normal.sign() * (1000 + 1e4 * normal.abs()))
    extreme = {
        "nan": [math.nan],
        "infinite": [math.inf, -math.inf],
        "out_of_range": [1e20, -1e20, 3e38, -(2.0**31), 2.0**31, 2.0**63],
    }[kind]
    return _sprinkle(on_grid(normal * 1.3), extreme, generator)


def _at_kinks(problem: ConvProblem, generator: torch.Generator) -> Tensor:
    """Coordinates on -1, 0, the last pixel and its successor, a little before and after them."""
    zeros = torch.zeros(problem.offset_shape, dtype=torch.float64)
    places = []
    for base, size in zip(problem.points(zeros), (problem.height, problem.width), strict=True):
        kinks = torch.tensor([-1.0, 0.0, size // 2, size - 1.0, size], dtype=torch.float64)
        near = torch.tensor([-NEAR_KINK, 0.0, 0.0, NEAR_KINK, 0.375], dtype=torch.float64)
        kink = kinks[torch.randint(len(kinks), base.shape, generator=generator)]
        side = near[torch.randint(len(near), base.shape, generator=generator)]
        places.append(kink + side - base)
    return torch.stack(places, 3).reshape(problem.offset_shape)


def _sprinkle(values: Tensor, extreme: list[float], generator: torch.Generator) -> Tensor:
    """A few values, at least one, replaced by non-finite or out-of-range ones."""
    flat = values.flatten()
    if flat.numel():
        count = max(1, flat.numel() // 40)
        where = torch.randint(flat.numel(), (count,), generator=generator)
        which = torch.randint(len(extreme), (count,), generator=generator)
        flat[where] = torch.tensor(extreme, dtype=torch.float64)[which]
    return flat.view(values.shape)
