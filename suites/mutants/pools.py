# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the two RoI poolings."""
# ruff: noqa: N801 (a mutant's name is its text)

import torch

from suites.mutants.backend import Mutant, collector
from suites.tolerance.naive_pools import PlainPSRoIPool, PlainRoIPool

POOLS: list[Mutant] = []
UNCHANGED_POOLS = [
    Mutant("plain centred pooling", PlainRoIPool, "deform_roi_pool"),
    Mutant("plain position-sensitive pooling", PlainPSRoIPool, "deform_psroi_pool"),
]
centred = collector("deform_roi_pool", POOLS)
sensitive = collector("deform_psroi_pool", POOLS)

# ---- the centred one


@centred("no half pixel subtracted", "RoIAlign before `aligned`")
class _(PlainRoIPool):
    def axis(self, first, last, scale):
        return first * scale, (last - first) * scale


@centred("samples at the corner of their share")
class _(PlainRoIPool):
    def centre(self):
        return 0.0


@centred("offset read as (y, x)")
class _(PlainRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        return factor * extent_y * offset[0::2], factor * extent_x * offset[1::2]


@centred("offset in pixels, not in sizes of the region")
class _(PlainRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        return factor * offset[1::2], factor * offset[0::2]


@centred("offset along y in widths")
class _(PlainRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        return super().shift(offset, extent_x, extent_x, factor)


@centred("samples off the map not counted", "the other convention")
class _(PlainRoIPool):
    mean = PlainPSRoIPool.mean


@centred("samples off the map read the edge")
class _(PlainRoIPool):
    def counts(self, place, size):
        return torch.ones_like(place, dtype=torch.bool)


@centred("samples between -1 and 0 left out")
class _(PlainRoIPool):
    low = 0.0


@centred("adaptive samples rounded down")
class _(PlainRoIPool):
    def count(self, extent, bins, samples):
        return samples if samples > 0 else max(int(torch.floor(extent / bins)), 1)


@centred("at least one pixel large", "RoIAlign before `aligned`")
class _(PlainRoIPool):
    def axis(self, first, last, scale):
        start, extent = super().axis(first, last, scale)
        return start, extent.clamp(min=1.0)


@centred("every region from the first image")
class _(PlainRoIPool):
    def image(self, index):
        return 0


@centred("slope across the edge as if not clamped", "mmcv's backward")
class _(PlainRoIPool):
    def corners(self, place, size):
        low, _, share = super().corners(place, size)
        return low, (low + 1).clamp(max=size - 1), share + (place - place.detach()) - (
            share - share.detach()
        )  # fmt: skip


@centred("mask applied twice")
class _(PlainRoIPool):
    def masked(self, pooled, mask):
        return super().masked(super().masked(pooled, mask), mask)


@centred("mask has no gradient")
class _(PlainRoIPool):
    def masked(self, pooled, mask):
        return super().masked(pooled, None if mask is None else mask.detach() + 0 * mask)


@centred("no regions are an error", "the seed: a grid of 0 blocks")
class _(PlainRoIPool):
    def nothing(self, input, offset, mask, bins):
        raise RuntimeError("invalid configuration argument")


@centred("no gradient of the input beside an offset")
class _(PlainRoIPool):
    def maps(self, image, bins):
        return super().maps(image.detach() + 0 * image, bins)


# ---- the position-sensitive one


@sensitive("halves rounded to even")
class _(PlainPSRoIPool):
    def rounded(self, edge):
        return edge.round()


@sensitive("halves rounded up, negative ones too")
class _(PlainPSRoIPool):
    def rounded(self, edge):
        return torch.floor(edge + 0.5)


@sensitive("regions not rounded", "the other convention")
class _(PlainPSRoIPool):
    def rounded(self, edge):
        return edge


@sensitive("end without + 1")
class _(PlainPSRoIPool):
    def axis(self, first, last, scale):
        start = self.rounded(first) * scale - 0.5
        return start, self.floored(self.rounded(last) * scale - 0.5 - start)


@sensitive("no smallest region")
class _(PlainPSRoIPool):
    def floored(self, extent):
        return extent


@sensitive("samples centred", "the other convention")
class _(PlainPSRoIPool):
    def centre(self):
        return 0.5


@sensitive("samples off the map counted", "the other convention")
class _(PlainPSRoIPool):
    mean = PlainRoIPool.mean


@sensitive("mean of no samples is NaN")
class _(PlainPSRoIPool):
    def mean(self, values, kept):
        total = values.where(kept, torch.zeros_like(values)).sum(-1)
        return total / kept.sum(-1)


@sensitive("band of a whole pixel before the map")
class _(PlainPSRoIPool):
    low = -1.0


@sensitive("offset read as (y, x)")
class _(PlainPSRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        return factor * extent_y * offset[0::2], factor * extent_x * offset[1::2]


@sensitive("every class takes the first one's offset")
class _(PlainPSRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        move_y, move_x = super().shift(offset, extent_y, extent_x, factor)
        return move_y[:1].expand_as(move_y), move_x[:1].expand_as(move_x)


@sensitive("parts rounded to the nearest")
class _(PlainPSRoIPool):
    def part(self, bins, parts):
        return (torch.arange(bins) * parts / bins).round().long().clamp(max=parts - 1)


@sensitive("a bin's own offset, whatever the parts")
class _(PlainPSRoIPool):
    def part(self, bins, parts):
        return torch.arange(bins) % parts


@sensitive("rows and columns of the channel groups exchanged")
class _(PlainPSRoIPool):
    def maps(self, image, bins):
        return super().maps(image, bins).transpose(1, 2)


@sensitive("channel groups before channels")
class _(PlainPSRoIPool):
    def maps(self, image, bins):
        cells = image.unflatten(0, (self.group_size, self.group_size, -1)).movedim(2, 0)
        rows, cols = self.group(bins[0]), self.group(bins[1])
        return cells[:, rows[:, None], cols]


@sensitive("no slope at pixels", "the authors' operator: floor equals ceil there")
class _(PlainPSRoIPool):
    def corners(self, place, size):
        low, high, share = super().corners(place, size)
        return low, torch.where(share == 0, low, high), share
