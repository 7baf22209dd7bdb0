# SPDX-License-Identifier: BSD-3-Clause
"""Offsets of a convolution, of several kinds.

Finite offsets are multiples of 2^-16 (coarser if a half type rounds them). On images smaller than
128 pixels a coordinate is therefore the same number in float32 and in float64, in any order of
addition. A derivative jumps at integers: rounding must not decide on which side a sample is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

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
EXTREME_VALUES = {  # by kind
    "nan": (math.nan,),
    "infinite": (math.inf, -math.inf),
    "out_of_range": (1e20, -1e20, 3e38, -(2.0**31), 2.0**31, 2.0**63),
}


def on_grid(values: Tensor) -> Tensor:
    """The nearest multiples of `GRID`."""
    return (values / GRID).round() * GRID


def conv_offsets(
    kind: str,
    shape: tuple[int, ...],
    size: tuple[int, int],
    bases: tuple[Tensor, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Offsets [N, G*K*2, Ho, Wo], float64.

    Args:
        kind: one of `OFFSETS`; or "clustered", all samples in the middle cell of the image, or
            "clustered_2x2", all in the four cells around its middle pixel.
        shape: of the offsets.
        size: height and width of the image.
        bases: rows and columns that are sampled without offsets, each [N, G, K, Ho, Wo].
        generator: of random numbers.
    """
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "zero":
        return torch.zeros(shape, dtype=torch.float64)
    if kind == "tiny":
        return on_grid(normal * 2.0**-10)
    if kind == "small":
        return on_grid(normal * 1.3)
    if kind == "smooth":  # coordinates 0.1 to 0.9 beyond a pixel, so that none is near a kink
        share = torch.rand(shape, generator=generator, dtype=torch.float64)
        return on_grid(torch.randint(-2, 3, shape, generator=generator) + 0.1 + 0.8 * share)
    if kind == "large":
        return on_grid(normal * 0.7 * max(size))
    if kind == "integer":
        return torch.randint(-3, 4, shape, generator=generator).double()
    if kind == "kink":
        return _at_kinks(size, bases, generator).reshape(shape)
    if kind in ("clustered", "clustered_2x2"):
        share = torch.rand(shape, generator=generator, dtype=torch.float64)
        middle = torch.stack([n // 2 - base for n, base in zip(size, bases, strict=True)], 3)
        cells = 0.9 * share if kind == "clustered" else 1.8 * share - 0.9
        return on_grid(middle.reshape(shape) + cells)
    if kind == "far":
        return on_grid(normal.sign() * (1000 + 1e4 * normal.abs()))
    return sprinkle(on_grid(normal * 1.3), EXTREME_VALUES[kind], 40, generator)


def _at_kinks(
    size: tuple[int, int], bases: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Coordinates at -1, 0, the last pixel and the one after it, or slightly off these."""
    places = []
    for base, extent in zip(bases, size, strict=True):
        kinks = torch.tensor([-1.0, 0.0, extent // 2, extent - 1.0, extent], dtype=torch.float64)
        near = torch.tensor([-NEAR_KINK, 0.0, 0.0, NEAR_KINK, 0.375], dtype=torch.float64)
        kink = kinks[torch.randint(len(kinks), base.shape, generator=generator)]
        side = near[torch.randint(len(near), base.shape, generator=generator)]
        places.append(kink + side - base)
    return torch.stack(places, 3)


def sprinkle(
    values: Tensor, extreme: tuple[float, ...], one_in: int, generator: torch.Generator
) -> Tensor:
    """Replace about one value in `one_in`, and at least one, by extreme ones."""
    flat = values.flatten()
    if flat.numel():
        count = max(1, flat.numel() // one_in)
        where = torch.randint(flat.numel(), (count,), generator=generator)
        which = torch.randint(len(extreme), (count,), generator=generator)
        flat[where] = torch.tensor(extreme, dtype=torch.float64)[which]
    return flat.view(values.shape)
