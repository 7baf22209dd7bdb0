# SPDX-License-Identifier: BSD-3-Clause
"""Naive versions of the RoI poolings, in steps that a mutant can replace.

Differentiable by autograd; in float32 or better inside. They share no code with `reference/`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class NaiveRoIPool:
    """The centred pooling, `deform_roi_pool`; call it as the operator."""

    low, high = -1.0, 0.0  # a sample counts from low to size + high

    def __call__(
        self,
        input: Tensor,
        rois: Tensor,
        offset: Tensor | None,
        mask: Tensor | None,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        gamma: float,
    ) -> Tensor:
        bins = (output_size, output_size) if isinstance(output_size, int) else output_size
        classes = 1
        return self.pool(
            input, rois, offset, mask, bins, classes, spatial_scale, sampling_ratio, gamma
        )

    # ---- steps

    def axis(self, first: Tensor, last: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Start and extent of a RoI along an axis, in pixels of the map."""
        start = first * scale - 0.5
        return start, last * scale - 0.5 - start

    def count(self, extent: Tensor, bins: int, samples: int) -> int:
        """Samples of a bin along an axis."""
        return samples if samples > 0 else max(int(torch.ceil(extent / bins)), 0)

    def centre(self) -> float:
        """The position of a sample in its part of the bin."""
        return 0.5

    def part(self, bins: int, parts: int) -> Tensor:
        """The part whose offset each bin along an axis takes."""
        return torch.arange(bins) * parts // bins

    def shift(self, offset: Tensor, extent_y: Tensor, extent_x: Tensor, factor: float):
        """How far the bins of [2*classes, parts, parts] move, y and x."""
        return factor * extent_y * offset[1::2], factor * extent_x * offset[0::2]

    def counts(self, place: Tensor, size: int) -> Tensor:
        """Samples within the limits along an axis."""
        return ~((place < self.low) | (place > size + self.high))

    def corners(self, place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """The two pixels around a coordinate, and the weight of the second."""
        clamped = place.clamp(0, size - 1)
        low = clamped.detach().floor().nan_to_num(nan=0.0).long()
        return low, (low + 1).clamp(max=size - 1), clamped - low

    def mean(self, values: Tensor, kept: Tensor) -> Tensor:
        """Over samples [..., S]: a sample beyond the limits is zero, but counts."""
        return values.where(kept, torch.zeros_like(values)).sum(-1) / max(values.shape[-1], 1)

    def image(self, index: Tensor) -> int:
        """The image of a RoI."""
        return int(index)

    def masked(self, pooled: Tensor, mask: Tensor | None) -> Tensor:
        """Bins [R, C, ph, pw] after modulation."""
        return pooled if mask is None else pooled * mask

    def maps(self, image: Tensor, bins: tuple[int, int]) -> Tensor:
        """What each bin reads, [C, ph or 1, pw or 1, H, W]."""
        return image[:, None, None]

    # ---- the whole

    def pool(self, input, rois, offset, mask, bins, classes, scale, samples, factor) -> Tensor:
        """[R, C, ph, pw]."""
        dtype, compute = input.dtype, torch.float64
        if dtype != torch.float64:
            compute = torch.float32
        input, rois, offset, mask = (
            t if t is None else t.to(compute) for t in (input, rois, offset, mask)
        )
        pooled = [
            self.pool_roi(
                self.maps(input[self.image(roi[0])], bins),
                roi, None if offset is None else offset[index], bins, classes, scale, samples,
                factor,
            )
            for index, roi in enumerate(rois.detach())
        ]  # fmt: skip
        if not pooled:
            return self.nothing(input, offset, mask, bins).to(dtype)
        return self.masked(torch.stack(pooled), mask).to(dtype)

    def nothing(self, input, offset, mask, bins) -> Tensor:
        """The result without RoIs."""
        channels = self.maps(input[0], bins).shape[0]
        used = sum(t.sum() for t in (input, offset, mask) if t is not None)
        return input.new_zeros(0, channels, *bins) + 0 * used

    def pool_roi(self, maps, roi, offset, bins, classes, scale, samples, factor) -> Tensor:
        """Bins [C, ph, pw] of one RoI."""
        height, width = maps.shape[-2:]
        (start_y, extent_y), (start_x, extent_x) = (
            self.axis(roi[first], roi[first + 2], scale) for first in (2, 1)
        )
        grid_y = self.count(extent_y, bins[0], samples)
        grid_x = self.count(extent_x, bins[1], samples)
        y = self.places(start_y, extent_y, bins[0], grid_y)[:, None, :, None]
        x = self.places(start_x, extent_x, bins[1], grid_x)[None, :, None, :]
        y, x = y[None], x[None]  # [classes, ph, pw, gh, gw] when broadcast
        if offset is not None:
            parts = offset.shape[1:]
            rows, cols = (self.part(b, p) for b, p in zip(bins, parts, strict=True))
            move_y, move_x = self.shift(offset, extent_y, extent_x, factor)
            y = y + move_y[:, rows[:, None], cols][..., None, None]
            x = x + move_x[:, rows[:, None], cols][..., None, None]
        y, x = torch.broadcast_tensors(y, x)
        spoiled = y.isnan() | x.isnan()
        kept = (self.counts(y, height) & self.counts(x, width)) | spoiled
        values = self.interpolated(maps, y, x)
        return self.mean(values.flatten(3), kept.flatten(3).repeat_interleave(
            len(values) // len(kept), 0
        ))  # fmt: skip

    def places(self, start: Tensor, extent: Tensor, bins: int, grid: int) -> Tensor:
        """Coordinates of the samples of all bins along an axis, [bins, grid]."""
        size = extent / bins
        inside = (torch.arange(grid, dtype=size.dtype) + self.centre()) * size / max(grid, 1)
        return start + torch.arange(bins, dtype=size.dtype)[:, None] * size + inside

    def interpolated(self, maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Values [C, ph, pw, gh, gw] of maps [C, ph or 1, pw or 1, H, W]."""
        height, width = maps.shape[-2:]
        each = len(maps) // len(y)
        top, bottom, ly = (t.repeat_interleave(each, 0) for t in self.corners(y, height))
        left, right, lx = (t.repeat_interleave(each, 0) for t in self.corners(x, width))
        flat = maps.expand(-1, *y.shape[1:3], -1, -1).flatten(3)
        spoiled = (ly.isnan() | lx.isnan()).flatten(3)

        def read(row, col):
            pixels = flat.gather(3, (row * width + col).flatten(3))
            return pixels.masked_fill(spoiled, 0.0).view(row.shape)

        above = (1 - lx) * read(top, left) + lx * read(top, right)
        below = (1 - lx) * read(bottom, left) + lx * read(bottom, right)
        return (1 - ly) * above + ly * below


class NaivePSRoIPool(NaiveRoIPool):
    """The position-sensitive pooling, `deform_psroi_pool`; call it as the operator."""

    low, high = -0.5, -0.5
    group_size = 1

    def __call__(
        self,
        input: Tensor,
        rois: Tensor,
        offset: Tensor | None,
        mask: Tensor | None,
        output_size: int,
        spatial_scale: float,
        group_size: int,
        part_size: int | None,
        sample_per_part: int,
        trans_std: float,
    ) -> Tensor:
        self.group_size = group_size
        classes = 1 if offset is None else offset.shape[1] // 2
        bins = (output_size, output_size)
        return self.pool(
            input, rois, offset, mask, bins, classes, spatial_scale, sample_per_part, trans_std
        )

    def rounded(self, edge: Tensor) -> Tensor:
        """Halves are rounded away from zero."""
        return torch.sign(edge) * torch.floor(edge.abs() + 0.5)

    def axis(self, first, last, scale):
        start = self.rounded(first) * scale - 0.5
        return start, self.floored((self.rounded(last) + 1) * scale - 0.5 - start)

    def floored(self, extent: Tensor) -> Tensor:
        """No RoI is smaller than a tenth of a pixel."""
        return extent.clamp(min=0.1)

    def centre(self):
        return 0.0

    def mean(self, values, kept):
        """Of the samples within the limits; 0 if there is none."""
        total = values.where(kept, torch.zeros_like(values)).sum(-1)
        return total / kept.sum(-1).clamp(min=1)

    def group(self, bins: int) -> Tensor:
        """The channel group that each bin along an axis reads."""
        return torch.arange(bins) * self.group_size // bins

    def maps(self, image, bins):
        cells = image.unflatten(0, (-1, self.group_size, self.group_size))
        rows, cols = self.group(bins[0]), self.group(bins[1])
        return cells[:, rows[:, None], cols]


class NaivePyramid(NaiveRoIPool):
    """RoIAlign from several maps, `multiscale_roi_align`; call it as the operator."""

    aligned = True

    def __call__(
        self,
        inputs: Sequence[Tensor],
        rois: Tensor,
        levels: Tensor,
        spatial_scales: Sequence[float],
        output_size: tuple[int, int],
        sampling_ratio: int,
        aligned: bool,
    ) -> Tensor:
        self.aligned = self.shifted(aligned)
        compute = torch.float64 if inputs[0].dtype == torch.float64 else torch.float32
        maps = [x.to(compute) for x in inputs]
        table = rois.detach().to(compute)
        connected = sum(x[:0].sum() for x in maps)  # zero, and part of every map's graph
        nothing = self.empty(maps[0].new_zeros(maps[0].shape[1], *output_size))
        pooled = [nothing.new_zeros(0, *nothing.shape)]
        for roi, given in zip(table, levels.tolist(), strict=True):
            level = self.level(given, len(maps))
            if level is None:
                pooled.append(nothing[None])
                continue
            image = self.maps(maps[level][self.image(roi[0])], output_size)
            scale = self.scale(spatial_scales, level)
            options = (None, output_size, 1, scale, sampling_ratio, 0.0)
            pooled.append(self.pool_roi(image, roi, *options)[None])
        return (torch.cat(pooled) + connected).to(inputs[0].dtype)

    def axis(self, first, last, scale):
        shift = 0.5 if self.aligned else 0.0
        start = first * scale - shift
        extent = last * scale - shift - start
        return start, extent if self.aligned else self.floored(extent)

    # ---- steps

    def shifted(self, aligned: bool) -> bool:
        """Whether RoIs are shifted by half a pixel."""
        return aligned

    def floored(self, extent: Tensor) -> Tensor:
        """Without the shift, no RoI is smaller than a pixel."""
        return extent.clamp(min=1.0)

    def level(self, level: int, count: int) -> int | None:
        """The map of a RoI, None for padding."""
        return None if level < 0 else int(level)

    def scale(self, scales: Sequence[float], level: int) -> float:
        """The scale of a map."""
        return scales[level]

    def empty(self, zeros: Tensor) -> Tensor:
        """The bins of padding."""
        return zeros
