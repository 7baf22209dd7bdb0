# SPDX-License-Identifier: BSD-3-Clause
"""Bilinear sampling of feature maps and its gradient.

A map is stored as a *table*: one row of channels for each pixel, and one row of zeros after the
last pixel of every image. Corners outside the map read that row, so nothing needs a mask: values
outside are zero, gradients of outside corners are added to a row that is dropped, and a NaN in the
input reaches only the samples that touch it. All four corners of a NaN point are outside: its
weights make its value NaN, and its gradient reaches no pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Size = int | Tensor  # of one map, or of the map of each point
Four = tuple[Tensor, Tensor, Tensor, Tensor]  # top left, top right, bottom left, bottom right


class Samples(NamedTuple):
    """Points in an image: the table rows of their corners, and their distances from them."""

    rows: Four  # each [...]
    ly: Tensor  # distance to the upper corners, in [0, 1], or NaN, [...]
    lx: Tensor  # distance to the left corners


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of coordinates, weights and sums: float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


# ---- tables


def make_table(image: Tensor) -> Tensor:
    """Turn `image` [N, C, H, W] into rows of channels [N, H*W + 1, C], the last one zero."""
    pixels = image.to(compute_dtype(image)).flatten(2).transpose(1, 2)
    return torch.cat([pixels, pixels.new_zeros(pixels.shape[0], 1, pixels.shape[2])], dim=1)


def untable(table: Tensor, height: int, width: int) -> Tensor:
    """Undo `make_table`: [N, H*W + 1, C] to [N, C, H, W], a view (channels last in memory)."""
    return table[:, :-1].unflatten(1, (height, width)).permute(0, 3, 1, 2)


def cut_rows(table: Tensor, parts: int) -> Tensor:
    """View a table [N, H*W + 1, C] as shorter rows [N*(H*W + 1)*parts, C/parts]."""
    return table.unflatten(2, (parts, -1)).flatten(0, 2)


def shift_rows(samples: Samples, first: Tensor, parts: int, part: Tensor) -> Samples:
    """Move samples of one image's rows to those of a cut table.

    Args:
        samples: points, [...].
        first: the row at which each point's image begins, broadcast to [...].
        parts: parts that a row is cut into.
        part: which of them a point reads, broadcast to [...].
    """
    a, b, c, d = ((row + first) * parts + part for row in samples.rows)
    return Samples((a, b, c, d), samples.ly, samples.lx)


# ---- positions


def zero_padded_samples(
    y: Tensor, x: Tensor, dy: Tensor, dx: Tensor, height: int, width: int
) -> Samples:
    """Place the points (y + dy, x + dx) on a map that is zero outside.

    It is bilinear in a border of one pixel. The lower corner is the floor, so that the derivative
    at an integer is the right-sided one, at -1 as well. `y` and `x` are whole numbers: only the
    offset is split into a whole number and a fraction, which then keeps all its digits.
    """
    top, ly = _split(y, dy, height)
    left, lx = _split(x, dx, width)
    return Samples(_rows(top, top + 1, left, left + 1, height, width), ly, lx)


def _split(whole: Tensor, offset: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The pixel at or before whole + offset, and the distance from it.

    Points that touch no pixel are placed just outside, so that no huge number is cast to an
    integer and no infinity is subtracted from itself.
    """
    floor = offset.detach().floor()
    base = whole + floor
    far = (base < -2) | (base > size)
    fraction = torch.where(far, 0, offset - floor)
    return _limit(base, -2, size).nan_to_num(nan=-2).long(), fraction


def clamped_samples(y: Tensor, x: Tensor, height: Size, width: Size, keep: Tensor) -> Samples:
    """Place points on a map that repeats its border; those not in `keep` read zero.

    The sizes of the map are numbers, or tensors if points are on maps of several sizes.

    Where a coordinate is clamped its two corners are the same pixel, so that the derivative along
    that axis is exactly 0; elsewhere it is the right-sided one.
    """
    above, before = y < 0, x < 0
    y, x = _limit(y, 0, height - 1), _limit(x, 0, width - 1)
    top, left = _floor_index(y), _floor_index(x)
    bottom = torch.where(above, top, (top + 1).clamp(max=height - 1))
    right = torch.where(before, left, (left + 1).clamp(max=width - 1))
    top, bottom = torch.where(keep, top, -1), torch.where(keep, bottom, -1)
    return Samples(_rows(top, bottom, left, right, height, width), y - y.floor(), x - x.floor())


def _limit(coordinate: Tensor, low: int, high: Size) -> Tensor:
    # Unlike clamp this lets the gradient of a NaN through.
    coordinate = torch.where(coordinate < low, low, coordinate)
    return torch.where(coordinate > high, high, coordinate)


def _floor_index(coordinate: Tensor) -> Tensor:
    return coordinate.detach().floor().nan_to_num(nan=-2).long()


def _rows(
    top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, height: Size, width: Size
) -> Four:
    in_top, in_bottom = (top >= 0) & (top < height), (bottom >= 0) & (bottom < height)
    in_left, in_right = (left >= 0) & (left < width), (right >= 0) & (right < width)
    top, bottom, zero_row = top * width, bottom * width, height * width
    return (
        torch.where(in_top & in_left, top + left, zero_row),
        torch.where(in_top & in_right, top + right, zero_row),
        torch.where(in_bottom & in_left, bottom + left, zero_row),
        torch.where(in_bottom & in_right, bottom + right, zero_row),
    )


# ---- values and gradients


def read(table: Tensor, samples: Samples) -> Four:
    """Read the corners of `samples` [...] from `table` [rows, C]: four tensors [..., C]."""
    if table.device.type == "cpu":  # several times faster there; elsewhere its gradient races
        size = (*samples.ly.shape, table.shape[1])
        a, b, c, d = (table.index_select(0, row.flatten()).view(size) for row in samples.rows)
    else:
        a, b, c, d = (table[row] for row in samples.rows)
    return a, b, c, d


def corner_weights(samples: Samples) -> Four:
    """Return the bilinear weight [...] of each corner."""
    ly, lx = samples.ly, samples.lx
    return (1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx


def blend(corners: Four, samples: Samples, modulation: Tensor | None = None) -> Tensor:
    """Return the interpolated values [..., C], times `modulation` [...]."""
    weights: Sequence[Tensor] = corner_weights(samples)
    if modulation is not None:
        weights = [weight * modulation for weight in weights]
    value = corners[0] * weights[0].unsqueeze(-1)
    for corner, weight in zip(corners[1:], weights[1:], strict=True):
        value = value.addcmul(corner, weight.unsqueeze(-1))
    return value


def scatter(grad_table: Tensor, samples: Samples, grad: Tensor, modulation: Tensor | None) -> None:
    """Add `grad` [..., C] into `grad_table` [rows, C] with the weights that `blend` gave.

    The sum has a fixed order everywhere: one thread's on a CPU, a sorted one in index_put on CUDA.
    """
    for row, weight in zip(samples.rows, corner_weights(samples), strict=True):
        weight = weight if modulation is None else weight * modulation
        term = grad * weight.unsqueeze(-1)
        if grad_table.device.type == "cpu":
            grad_table.index_add_(0, row.flatten(), term.reshape(-1, term.shape[-1]))
        else:
            grad_table.index_put_((row,), term, accumulate=True)


def slopes(corners: Four, samples: Samples, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return `grad` [..., C] times the value and its derivatives along y and x, summed: [...]."""
    dots = [(corner * grad).sum(-1) for corner in corners]
    top_left, top_right, bottom_left, bottom_right = dots
    ly, lx = samples.ly, samples.lx
    a, b, c, d = corner_weights(samples)
    value = top_left * a + top_right * b + bottom_left * c + bottom_right * d
    along_y = (bottom_left - top_left) * (1 - lx) + (bottom_right - top_right) * lx
    along_x = (top_right - top_left) * (1 - ly) + (bottom_right - bottom_left) * ly
    return value, along_y, along_x
