# SPDX-License-Identifier: BSD-3-Clause
"""Where a naive deformable convolution samples: points, and the four pixels around each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Sizes:
    """Sizes of one convolution; y before x. A pass receives its own copy."""

    batch: int
    channels: int
    height: int
    width: int
    out_channels: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    deform_groups: int
    out_h: int
    out_w: int

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return self.kernel_h * self.kernel_w

    @property
    def places(self) -> int:
        """Output pixels of an image."""
        return self.out_h * self.out_w


@dataclass
class Corner:
    """One of the four pixels around every sample; each [N, G, K, P]."""

    index: Tensor  # row * width + column, 0 where not on the map
    on_map: Tensor
    weight: Tensor  # of interpolation
    slope_y: Tensor  # d weight / d y
    slope_x: Tensor

    def rounded(self, dtype: torch.dtype) -> Corner:
        """The corner with its weight and slopes in another dtype."""
        numbers = (self.weight, self.slope_y, self.slope_x)
        return Corner(self.index, self.on_map, *(number.to(dtype) for number in numbers))


class NaiveGeometry:
    """The geometry of a deformable convolution, a method for each step.

    Attributes:
        absolute: slopes are absolute values, for `suites.tolerance.magnitudes`.
    """

    absolute = False

    def sizes(self, input, offset, weight, stride, padding, dilation) -> Sizes:
        """The sizes, from the shapes."""
        kernel_h, kernel_w = weight.shape[2:]
        return Sizes(
            *input.shape,
            weight.shape[0],
            kernel_h,
            kernel_w,
            *stride,
            *padding,
            *dilation,
            groups=input.shape[1] // weight.shape[1],
            deform_groups=offset.shape[1] // (2 * kernel_h * kernel_w),
            out_h=offset.shape[2],
            out_w=offset.shape[3],
        )

    def pass_sizes(self, sizes: Sizes, purpose: str) -> Sizes:
        """The sizes that one of `PASSES` uses."""
        return sizes

    def split_offset(self, offset: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
        """Offsets along y and x, each [N, G, K, P]."""
        shift = offset.reshape(sizes.batch, sizes.deform_groups, sizes.taps, 2, sizes.places)
        return shift[:, :, :, 0], shift[:, :, :, 1]

    def split_mask(self, mask: Tensor, sizes: Sizes) -> Tensor:
        """[N, G, K, P]."""
        return mask.reshape(sizes.batch, sizes.deform_groups, sizes.taps, sizes.places)

    def tap_place(self, tap: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
        """Row and column of taps in the kernel."""
        return tap // sizes.kernel_w, tap % sizes.kernel_w

    def points(self, offset: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
        """Sampled rows and columns, each [N, G, K, P]."""
        device = offset.device
        row, col = self.tap_place(torch.arange(sizes.taps, device=device)[:, None], sizes)
        place = torch.arange(sizes.places, device=device)[None]
        out_y, out_x = place // sizes.out_w, place % sizes.out_w
        shift_y, shift_x = self.split_offset(offset, sizes)
        base_y = out_y * sizes.stride_h - sizes.pad_h + row * sizes.dilation_h
        base_x = out_x * sizes.stride_w - sizes.pad_w + col * sizes.dilation_w
        return self.moved(base_y, shift_y), self.moved(base_x, shift_x)

    def moved(self, base: Tensor, shift: Tensor) -> Tensor:
        """A coordinate, in float64: its distance from a pixel has every digit that counts."""
        return base.double() + shift.double()

    def inside(self, y: Tensor, x: Tensor, sizes: Sizes) -> Tensor:
        """Samples that can touch the map; the right-sided slope reaches y = -1."""
        return (y >= -1) & (y < sizes.height) & (x >= -1) & (x < sizes.width)

    def base(self, place: Tensor) -> Tensor:
        """The pixel at or before a coordinate."""
        return place.floor()

    def corners(self, y: Tensor, x: Tensor, sizes: Sizes) -> list[Corner]:
        """The four pixels around each sample, (0, 0), (0, 1), (1, 0), (1, 1)."""
        inside = self.inside(y, x, sizes)
        far_y, far_x = y.isinf() | (y.abs() > 2**30), x.isinf() | (x.abs() > 2**30)
        y, x = y.masked_fill(far_y, -5.0), x.masked_fill(far_x, -5.0)
        y0, x0 = self.base(y), self.base(x)
        ly, lx = y - y0, x - x0
        corners = []
        for down in (0, 1):
            for right in (0, 1):
                row, col = y0 + down, x0 + right
                on_map = inside & self.on_map(row, col, sizes)
                index = self.pixel(row, col, sizes)
                weight_y, weight_x = (ly if down else 1 - ly), (lx if right else 1 - lx)
                slope_y = weight_x if down or self.absolute else -weight_x
                slope_x = weight_y if right or self.absolute else -weight_y
                corners.append(
                    Corner(
                        index.masked_fill(~on_map, 0).long(),
                        on_map,
                        weight_y * weight_x,
                        slope_y,
                        slope_x,
                    )
                )
        return corners

    def on_map(self, row: Tensor, col: Tensor, sizes: Sizes) -> Tensor:
        """Pixels that exist; the others are zero."""
        return (row >= 0) & (row < sizes.height) & (col >= 0) & (col < sizes.width)

    def pixel(self, row: Tensor, col: Tensor, sizes: Sizes) -> Tensor:
        """Index of a pixel in its map."""
        return row * sizes.width + col

    def located(self, offset: Tensor, sizes: Sizes, purpose: str) -> list[Corner]:
        """The corners that one of `PASSES` uses."""
        used = self.pass_sizes(sizes, purpose)
        corners = self.corners(*self.points(offset, used), used)
        return [corner.rounded(offset.dtype) for corner in corners]
