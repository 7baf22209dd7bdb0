# SPDX-License-Identifier: BSD-3-Clause
"""RoIAlign (arXiv 1703.06870, section 3) of every region from one of several maps.

A bin is the mean of interpolated samples at the centres of a regular grid, as in `deform_roi_pool`
without offsets. In the first version of RoIAlign (`aligned` false) regions are not shifted by half
a pixel, and are at least one pixel large.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, stack, zeros

from reference.deform_roi import pool_samples, roi_points
from reference.rois import as_pair, as_table


def _shifted(roi: Tensor, scale: float) -> Tensor:
    """The region whose shifted samples are those of `roi` without a shift, on a map of `scale`."""
    pixel = 1 / scale
    index, x1, y1, x2, y2 = roi.unbind()
    x2, y2 = torch.maximum(x2, x1 + pixel), torch.maximum(y2, y1 + pixel)
    return stack([index, *(edge + pixel / 2 for edge in (x1, y1, x2, y2))])


def multiscale_roi_align(
    inputs: Sequence[Tensor],
    rois: Tensor | Sequence[Tensor],
    spatial_scales: Sequence[float],
    output_size: int | tuple[int, int] = 7,
    sampling_ratio: int = 0,
    aligned: bool = True,
    levels: Tensor | None = None,
) -> Tensor:
    """Average of interpolated samples in every bin of every region.

    Args:
        inputs: maps [N, C, Hl, Wl].
        rois: [R, 5], rows (batch index, x1, y1, x2, y2) in image pixels, or boxes per image.
        spatial_scales: pixels of each map per pixel of the image.
        output_size: bins, (ph, pw).
        sampling_ratio: samples per side of a bin; 0 for one per pixel, rounded up.
        aligned: whether regions are shifted by half a pixel.
        levels: [R], the map of each region; a negative number for padding. None takes FPN's.

    Returns:
        [R, C, ph, pw], zero for padding. Regions receive no gradient.
    """
    bins = as_pair(output_size)
    table = as_table(rois).detach().to(inputs[0].dtype)
    levels = fpn_levels(table[:, 1:], spatial_scales) if levels is None else levels
    nothing = zeros(inputs[0].shape[1], *bins, dtype=inputs[0].dtype, device=inputs[0].device)
    # An empty sum connects the result to every map, also to those that no region is pooled from.
    nothing = nothing + sum(x[:0].sum() for x in inputs)
    pooled = []
    for roi, level in zip(table, levels.tolist(), strict=True):
        if level < 0:
            pooled.append(nothing)
            continue
        image, scale = inputs[int(level)][int(roi[0])], spatial_scales[int(level)]
        region = roi if aligned else _shifted(roi, scale)
        points = roi_points(region, None, bins, scale, sampling_ratio, 0.0)
        pooled.append(pool_samples(image, *points) + nothing)
    return stack(pooled) if pooled else nothing[None][:0]


def fpn_levels(boxes: Tensor, spatial_scales: Sequence[float]) -> Tensor:
    """Equation 1 of arXiv 1612.03144: level 4, of stride 16, for a box of 224 x 224 pixels.

    Args:
        boxes: [R, 4], x1, y1, x2, y2.
        spatial_scales: of the maps, each half of the one before.

    Returns:
        [R], numbers of the maps.
    """
    finest = -torch.tensor(float(spatial_scales[0]), dtype=torch.float64).log2()
    sides = (boxes[:, 2:] - boxes[:, :2]).double()
    level = (4 + (sides.prod(1).sqrt() / 224).log2() + 1e-6).floor() - finest
    return level.clamp(0, len(spatial_scales) - 1).long()
