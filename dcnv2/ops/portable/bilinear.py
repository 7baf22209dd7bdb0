# SPDX-License-Identifier: BSD-3-Clause
"""Bilinear samples of feature maps: where a point reads, with what weight, and the way back.

A map is turned into a *table*: one row of channels a pixel, and one row of zeros after the last pixel
of every image. A corner that lies outside reads that row, so nothing needs masking: values outside
are zero, gradients that go outside land in a row that is thrown away, and a NaN in the input reaches
only the samples that touch it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Samples(NamedTuple):
    """Points in an image, as the four table rows round each and the place between them."""

    rows: tuple[Tensor, Tensor, Tensor, Tensor]  # top left, top right, bottom left, bottom right
    ly: Tensor  # distance to the upper corners, in [0, 1), NaN for a point that is not a number
    lx: Tensor  # distance to the left corners


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of coordinates, weights and sums: float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def make_table(image: Tensor) -> Tensor:
    """Turn `image` [N, C, H, W] into rows of channels [N, H*W + 1, C], the last one zero."""
    batch, channels, height, width = image.shape
    pixels = image.to(compute_dtype(image)).permute(0, 2, 3, 1)
    pixels = pixels.reshape(batch, height * width, channels)
    return torch.cat([pixels, pixels.new_zeros(batch, 1, channels)], dim=1)


def untable(table: Tensor, height: int, width: int) -> Tensor:
    """Undo `make_table`: [N, H*W + 1, C] to [N, C, H, W] (a view, channels last in memory)."""
    batch, _, channels = table.shape
    return table[:, :-1].unflatten(1, (height, width)).permute(0, 3, 1, 2)


def zero_padded_samples(y: Tensor, x: Tensor, height: int, width: int) -> Samples:
    """Place points on a map that is zero outside: bilinear in the ring of one pixel round it.

    The lower corner is the floor, so that the derivative at an integer is the right-sided one, at -1
    as well. Far or infinite points are first drawn to just outside, so no huge number is ever cast.
    """
    y, x = _limit(y, -2, height), _limit(x, -2, width)
    y, x = y + 0 * x, x + 0 * y  # a NaN in one coordinate is a NaN in both
    top, left = _floor_index(y), _floor_index(x)
    return Samples(_rows(top, top + 1, left, left + 1, height, width), y - y.floor(), x - x.floor())


def clamped_samples(y: Tensor, x: Tensor, height: int, width: int, keep: Tensor) -> Samples:
    """Place points on a map that repeats its border; those not in `keep` read zero.

    Where a coordinate is clamped its two corners are the same pixel, so that the derivative along
    that axis is exactly 0; elsewhere it is the right-sided one.
    """
    y, x = y + 0 * x.clamp(0, 0), x + 0 * y.clamp(0, 0)
    above, before = y < 0, x < 0
    y, x = _limit(y, 0, height - 1), _limit(x, 0, width - 1)
    top, left = _floor_index(y), _floor_index(x)
    bottom = torch.where(above, top, (top + 1).clamp(max=height - 1))
    right = torch.where(before, left, (left + 1).clamp(max=width - 1))
    outside = torch.full_like(top, -1)
    top, bottom = torch.where(keep, top, outside), torch.where(keep, bottom, outside)
    return Samples(_rows(top, bottom, left, right, height, width), y - y.floor(), x - x.floor())


def _limit(coordinate: Tensor, low: int, high: int) -> Tensor:
    # Unlike clamp this lets the gradient of a NaN through.
    coordinate = torch.where(coordinate < low, low, coordinate)
    return torch.where(coordinate > high, high, coordinate)


def _floor_index(coordinate: Tensor) -> Tensor:
    return coordinate.detach().floor().nan_to_num(nan=-2).long()


def _rows(
    top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    in_top, in_bottom = (top >= 0) & (top < height), (bottom >= 0) & (bottom < height)
    in_left, in_right = (left >= 0) & (left < width), (right >= 0) & (right < width)
    zero_row = height * width
    return (
        torch.where(in_top & in_left, top * width + left, zero_row),
        torch.where(in_top & in_right, top * width + right, zero_row),
        torch.where(in_bottom & in_left, bottom * width + left, zero_row),
        torch.where(in_bottom & in_right, bottom * width + right, zero_row),
    )


def shift_rows(samples: Samples, first: Tensor, step: int, part: Tensor) -> Samples:
    """Address a table that holds several images, cut into `step` parts a row of channels.

    Args:
        samples: points, [...].
        first: table row of each point's image, broadcast to [...].
        step: parts a row is cut into.
        part: which of them a point reads, broadcast to [...].
    """
    rows = tuple((row + first) * step + part for row in samples.rows)
    return Samples(rows, samples.ly, samples.lx)


def corner_weights(samples: Samples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the bilinear weight [...] of each corner."""
    ly, lx = samples.ly, samples.lx
    return (1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx


def interpolate(table: Tensor, samples: Samples) -> Tensor:
    """Read `samples` [...] from `table` [rows, C]: [..., C]."""
    value = None
    for row, weight in zip(samples.rows, corner_weights(samples), strict=True):
        term = table[row] * weight.unsqueeze(-1)
        value = term if value is None else value + term
    return value


def scatter(grad_table: Tensor, samples: Samples, grad: Tensor, scale: Tensor | None) -> None:
    """Add `grad` [..., C], weighted as `interpolate` read, into `grad_table` [rows, C].

    The sum's order is fixed on every device (an accumulating index_put sorts on CUDA).
    """
    for row, weight in zip(samples.rows, corner_weights(samples), strict=True):
        weight = weight if scale is None else weight * scale
        # A point that is not a number has no place: its rows are the zero row, dropped later.
        grad_table.index_put_((row,), grad * weight.unsqueeze(-1), accumulate=True)


def corner_dots(table: Tensor, samples: Samples, grad: Tensor) -> list[Tensor]:
    """Dot `grad` [..., C] with each corner's channels: four tensors [...]."""
    return [(table[row] * grad).sum(-1) for row in samples.rows]


def dots_to_gradients(samples: Samples, dots: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Turn `corner_dots` into the derivatives along the value, y and x, each [...]."""
    top_left, top_right, bottom_left, bottom_right = dots
    ly, lx = samples.ly, samples.lx
    value = sum(w * d for w, d in zip(corner_weights(samples), dots, strict=True))
    along_y = (bottom_left - top_left) * (1 - lx) + (bottom_right - top_right) * lx
    along_x = (top_right - top_left) * (1 - ly) + (bottom_right - bottom_left) * ly
    return value, along_y, along_x
