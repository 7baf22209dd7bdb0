# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the RoI poolings."""

import torch

from suites.mutants.backend import Mutant, mutants_of
from suites.tolerance.naive_pools import NaivePSRoIPool, NaivePyramid, NaiveRoIPool

UNCHANGED_POOLS = [
    Mutant("naive centred pooling", NaiveRoIPool, "deform_roi_pool"),
    Mutant("naive position-sensitive pooling", NaivePSRoIPool, "deform_psroi_pool"),
    Mutant("naive RoIAlign from several maps", NaivePyramid, "multiscale_roi_align"),
]
CENTRED, centred = mutants_of(NaiveRoIPool, "deform_roi_pool")
SENSITIVE, sensitive = mutants_of(NaivePSRoIPool, "deform_psroi_pool")
PYRAMID, pyramid = mutants_of(NaivePyramid, "multiscale_roi_align")


def _returns(value):
    return lambda step, *_: value


def _own(tensor):
    """The same values without a gradient of their own."""
    return None if tensor is None else tensor.detach() + 0 * tensor


def _y_before_x(step, offset, extent_y, extent_x, factor):
    return factor * extent_y * offset[0::2], factor * extent_x * offset[1::2]


def _at_least_a_pixel(step, first, last, scale):
    start, extent = step(first, last, scale)
    return start, extent.clamp(min=1.0)


def _slope_past_the_edge(step, place, size):
    low, high, share = step(place, size)
    return low, high, share.detach() + (place - place.detach())


def _no_rois(step, *_):
    raise RuntimeError("invalid configuration argument")


def _last_pixel_left_out(step, first, last, scale):
    start, rounded = step(first, last, scale)[0], step.__self__.rounded(last)
    return start, step.__self__.floored(rounded * scale - 0.5 - start)


def _mean_of_none(step, values, kept):
    return values.where(kept, torch.zeros_like(values)).sum(-1) / kept.sum(-1)


def _first_class(step, *operands):
    move_y, move_x = step(*operands)
    return move_y[:1].expand_as(move_y), move_x[:1].expand_as(move_x)


def _groups_before_channels(step, image, bins):
    size = step.__self__.group_size
    cells = image.unflatten(0, (size, size, -1)).movedim(2, 0)
    rows, cols = step.__self__.group(bins[0]), step.__self__.group(bins[1])
    return cells[:, rows[:, None], cols]


def _flat_at_pixels(step, place, size):
    low, high, share = step(place, size)
    return low, torch.where(share == 0, low, high), share


# fmt: off
centred("no half pixel subtracted", "RoIAlign before `aligned`",
        axis=lambda step, first, last, scale: (first * scale, (last - first) * scale))
centred("samples at the corner of their cells",
        centre=_returns(0.0))
centred("offset read as (y, x)",
        shift=_y_before_x)
centred("offset in pixels, not in sizes of the RoI",
        shift=lambda step, offset, y, x, factor: (factor * offset[1::2], factor * offset[0::2]))
centred("offset along y scaled by the width",
        shift=lambda step, offset, extent_y, extent_x, factor: step(
            offset, extent_x, extent_x, factor))
centred("samples off the map not counted", "the other convention",
        mean=lambda step, values, kept: NaivePSRoIPool.mean(step.__self__, values, kept))
centred("samples off the map read the edge",
        counts=lambda step, place, size: torch.ones_like(place, dtype=torch.bool))
centred("samples between -1 and 0 left out",
        counts=lambda step, place, size: step(place, size) & ~(place < 0))
centred("number of adaptive samples rounded down",
        count=lambda step, extent, bins, samples: (
            samples if samples > 0 else max(int(torch.floor(extent / bins)), 1)))
centred("RoIs at least one pixel large", "RoIAlign before `aligned`",
        axis=_at_least_a_pixel)
centred("every RoI in the first image",
        image=_returns(0))
centred("slope across the edge as if not clamped", "mmcv's backward",
        corners=_slope_past_the_edge)
centred("mask applied twice",
        masked=lambda step, pooled, mask: step(step(pooled, mask), mask))
centred("no gradient of the mask",
        masked=lambda step, pooled, mask: step(pooled, _own(mask)))
centred("no RoIs refused", "the seed: a grid of 0 blocks",
        nothing=_no_rois)
centred("no gradient of the input",
        maps=lambda step, image, bins: step(_own(image), bins))

sensitive("halves rounded to even",
          rounded=lambda step, edge: edge.round())
sensitive("halves rounded up, negative ones too",
          rounded=lambda step, edge: torch.floor(edge + 0.5))
sensitive("RoIs not rounded", "the other convention",
          rounded=lambda step, edge: edge)
sensitive("end of a RoI without its last pixel",
          axis=_last_pixel_left_out)
sensitive("no smallest RoI",
          floored=lambda step, extent: extent)
sensitive("samples centred in their cells", "the other convention",
          centre=_returns(0.5))
sensitive("samples off the map counted", "the other convention",
          mean=lambda step, values, kept: NaiveRoIPool.mean(step.__self__, values, kept))
sensitive("mean of no samples is NaN",
          mean=_mean_of_none)
sensitive("samples up to a whole pixel before the map counted",
          counts=lambda step, place, size: ~((place < -1) | (place > size - 0.5)))
sensitive("offset read as (y, x)",
          shift=_y_before_x)
sensitive("first class's offset used for all",
          shift=_first_class)
sensitive("parts rounded to the nearest",
          part=lambda step, bins, parts: (
              (torch.arange(bins) * parts / bins).round().long().clamp(max=parts - 1)))
sensitive("part is bin % parts",
          part=lambda step, bins, parts: torch.arange(bins) % parts)
sensitive("rows and columns of the channel groups exchanged",
          maps=lambda step, image, bins: step(image, bins).transpose(1, 2))
sensitive("channel groups before channels",
          maps=_groups_before_channels)
sensitive("no slope at pixels", "the authors' operator: floor equals ceil there",
          corners=_flat_at_pixels)

pyramid("every RoI from the first map",
        level=lambda step, level, count: step(min(level, 0), count))
pyramid("maps in reverse order",
        level=lambda step, level, count: step(count - 1 - level if level >= 0 else level, count))
pyramid("padding pooled from the last map", "an index of -1",
        level=lambda step, level, count: level % count)
pyramid("padding is NaN", "uninitialised bins",
        empty=lambda step, zeros: torch.full_like(zeros, torch.nan))
pyramid("scale of the first map used for all",
        scale=lambda step, scales, level: step(scales, 0))
pyramid("always aligned",
        shifted=_returns(True))
pyramid("never aligned", "torchvision's default",
        shifted=_returns(False))
pyramid("no smallest RoI without the shift",
        floored=lambda step, extent: extent)
pyramid("every RoI in the first image",
        image=_returns(0))
pyramid("number of adaptive samples rounded down",
        count=lambda step, extent, bins, samples: (
            samples if samples > 0 else max(int(torch.floor(extent / bins)), 1)))
pyramid("no gradient of the maps",
        maps=lambda step, image, bins: step(_own(image), bins))
# fmt: on

POOLS = [*CENTRED, *SENSITIVE, *PYRAMID]
