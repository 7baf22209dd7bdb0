# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the two RoI poolings."""
# ruff: noqa: N801 (a mutant's name is its text)

import torch

from suites.mutants.backend import Mutant, collector
from suites.tolerance.naive_pools import NaivePSRoIPool, NaiveRoIPool

POOLS: list[Mutant] = []
UNCHANGED_POOLS = [
    Mutant("naive centred pooling", NaiveRoIPool, "deform_roi_pool"),
    Mutant("naive position-sensitive pooling", NaivePSRoIPool, "deform_psroi_pool"),
]
centred = collector("deform_roi_pool", POOLS)
sensitive = collector("deform_psroi_pool", POOLS)

# ---- the centred one


@centred("no half pixel subtracted", "RoIAlign before `aligned`")
class _(NaiveRoIPool):
    def axis(self, first, last, scale):
        return first * scale, (last - first) * scale


@centred("samples at the corner of their share")
class _(NaiveRoIPool):
    def centre(self):
        return 0.0


@centred("offset read as (y, x)")
class _(NaiveRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        return factor * extent_y * offset[0::2], factor * extent_x * offset[1::2]


@centred("offset in pixels, not in sizes of the region")
class _(NaiveRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        return factor * offset[1::2], factor * offset[0::2]


@centred("offset along y in widths")
class _(NaiveRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        return super().shift(offset, extent_x, extent_x, factor)


@centred("samples off the map not counted", "the other convention")
class _(NaiveRoIPool):
    mean = NaivePSRoIPool.mean


@centred("samples off the map read the edge")
class _(NaiveRoIPool):
    def counts(self, place, size):
        return torch.ones_like(place, dtype=torch.bool)


@centred("samples between -1 and 0 left out")
class _(NaiveRoIPool):
    low = 0.0


@centred("adaptive samples rounded down")
class _(NaiveRoIPool):
    def count(self, extent, bins, samples):
        return samples if samples > 0 else max(int(torch.floor(extent / bins)), 1)


@centred("at least one pixel large", "RoIAlign before `aligned`")
class _(NaiveRoIPool):
    def axis(self, first, last, scale):
        start, extent = super().axis(first, last, scale)
        return start, extent.clamp(min=1.0)


@centred("every region from the first image")
class _(NaiveRoIPool):
    def image(self, index):
        return 0


@centred("slope across the edge as if not clamped", "mmcv's backward")
class _(NaiveRoIPool):
    def corners(self, place, size):
        low, _, share = super().corners(place, size)
        return low, (low + 1).clamp(max=size - 1), share + (place - place.detach()) - (
            share - share.detach()
        )  # fmt: skip


@centred("mask applied twice")
class _(NaiveRoIPool):
    def masked(self, pooled, mask):
        return super().masked(super().masked(pooled, mask), mask)


@centred("mask has no gradient")
class _(NaiveRoIPool):
    def masked(self, pooled, mask):
        return super().masked(pooled, None if mask is None else mask.detach() + 0 * mask)


@centred("no regions are an error", "the seed: a grid of 0 blocks")
class _(NaiveRoIPool):
    def nothing(self, input, offset, mask, bins):
        raise RuntimeError("invalid configuration argument")


@centred("no gradient of the input beside an offset")
class _(NaiveRoIPool):
    def maps(self, image, bins):
        return super().maps(image.detach() + 0 * image, bins)


# ---- the position-sensitive one


@sensitive("halves rounded to even")
class _(NaivePSRoIPool):
    def rounded(self, edge):
        return edge.round()


@sensitive("halves rounded up, negative ones too")
class _(NaivePSRoIPool):
    def rounded(self, edge):
        return torch.floor(edge + 0.5)


@sensitive("regions not rounded", "the other convention")
class _(NaivePSRoIPool):
    def rounded(self, edge):
        return edge


@sensitive("end without + 1")
class _(NaivePSRoIPool):
    def axis(self, first, last, scale):
        start = self.rounded(first) * scale - 0.5
        return start, self.floored(self.rounded(last) * scale - 0.5 - start)


@sensitive("no smallest region")
class _(NaivePSRoIPool):
    def floored(self, extent):
        return extent


@sensitive("samples centred", "the other convention")
class _(NaivePSRoIPool):
    def centre(self):
        return 0.5


@sensitive("samples off the map counted", "the other convention")
class _(NaivePSRoIPool):
    mean = NaiveRoIPool.mean


@sensitive("mean of no samples is NaN")
class _(NaivePSRoIPool):
    def mean(self, values, kept):
        total = values.where(kept, torch.zeros_like(values)).sum(-1)
        return total / kept.sum(-1)


@sensitive("band of a whole pixel before the map")
class _(NaivePSRoIPool):
    low = -1.0


@sensitive("offset read as (y, x)")
class _(NaivePSRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        return factor * extent_y * offset[0::2], factor * extent_x * offset[1::2]


@sensitive("every class takes the first one's offset")
class _(NaivePSRoIPool):
    def shift(self, offset, extent_y, extent_x, factor):
        move_y, move_x = super().shift(offset, extent_y, extent_x, factor)
        return move_y[:1].expand_as(move_y), move_x[:1].expand_as(move_x)


@sensitive("parts rounded to the nearest")
class _(NaivePSRoIPool):
    def part(self, bins, parts):
        return (torch.arange(bins) * parts / bins).round().long().clamp(max=parts - 1)


@sensitive("a bin's own offset, whatever the parts")
class _(NaivePSRoIPool):
    def part(self, bins, parts):
        return torch.arange(bins) % parts


@sensitive("rows and columns of the channel groups exchanged")
class _(NaivePSRoIPool):
    def maps(self, image, bins):
        return super().maps(image, bins).transpose(1, 2)


@sensitive("channel groups before channels")
class _(NaivePSRoIPool):
    def maps(self, image, bins):
        cells = image.unflatten(0, (self.group_size, self.group_size, -1)).movedim(2, 0)
        rows, cols = self.group(bins[0]), self.group(bins[1])
        return cells[:, rows[:, None], cols]


@sensitive("no slope at pixels", "the authors' operator: floor equals ceil there")
class _(NaivePSRoIPool):
    def corners(self, place, size):
        low, high, share = super().corners(place, size)
        return low, torch.where(share == 0, low, high), share
