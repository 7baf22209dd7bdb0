# SPDX-License-Identifier: BSD-3-Clause
"""Deformable RoI pooling with centred samples, as in RoIAlign; modulated where a mask is given.

y(k) = Σ_j x(p_kj + Δp_k) · Δm_k / n_k: Deformable ConvNets v2 (arXiv 1811.11168), equation 2, with
the sampling convention of mmcv's DeformRoIPool.
"""

from collections.abc import Sequence
from math import ceil

from torch import Tensor, arange, stack, where, zeros, zeros_like

from reference.bilinear import interpolate_clamped
from reference.rois import as_pair, as_table


def roi_points(
    roi: Tensor,
    shift: Tensor | None,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Sample points of one region, in pixels of the map.

    Args:
        roi: [5].
        shift: offset of the region's bins, [2, ph, pw], channel 0 is x, or None.
        output_size: (ph, pw).
        spatial_scale: pixels of the map per pixel of the image.
        sampling_ratio: samples per side of a bin; 0 for one per pixel, rounded up.
        gamma: scale of the offset, in sizes of the region.

    Returns:
        Rows [ph, pw, gh, 1] and columns [ph, pw, 1, gw].
    """
    (out_h, out_w), like = output_size, {"dtype": roi.dtype, "device": roi.device}
    x1, y1, x2, y2 = (roi[1:] * spatial_scale - 0.5).unbind()
    width, height = x2 - x1, y2 - y1
    grid_h = sampling_ratio if sampling_ratio > 0 else max(ceil(float(height / out_h)), 0)
    grid_w = sampling_ratio if sampling_ratio > 0 else max(ceil(float(width / out_w)), 0)
    bin_h, bin_w = height / out_h, width / out_w

    y = (y1 + arange(out_h, **like) * bin_h).view(-1, 1, 1, 1).expand(out_h, out_w, 1, 1)
    x = (x1 + arange(out_w, **like) * bin_w).view(1, -1, 1, 1).expand(out_h, out_w, 1, 1)
    if shift is not None:
        x = x + gamma * width * shift[0][:, :, None, None]
        y = y + gamma * height * shift[1][:, :, None, None]
    y = y + (arange(grid_h, **like) + 0.5).view(1, 1, -1, 1) * bin_h / max(grid_h, 1)
    x = x + (arange(grid_w, **like) + 0.5).view(1, 1, 1, -1) * bin_w / max(grid_w, 1)
    return y, x


def pool_samples(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Mean over the samples of each bin; [C, ph, pw]. A sample outside the map counts as zero."""
    channels, height, width = image.shape
    out_h, out_w, grid_h, _ = y.shape
    grid_w = x.shape[3]
    off = (y < -1) | (y > height) | (x < -1) | (x > width)
    off = off & ~(y.isnan() | x.isnan())  # NaN is not outside the map
    full = (out_h, out_w, grid_h, grid_w)
    points = (1, out_h * out_w * grid_h * grid_w)
    values = interpolate_clamped(
        image[None], y.expand(full).reshape(points), x.expand(full).reshape(points)
    )
    values = values.view(channels, *full)
    values = where(off, zeros_like(values), values)
    return values.sum((3, 4)) / max(grid_h * grid_w, 1)


def deform_roi_pool(
    input: Tensor,
    rois: Tensor | Sequence[Tensor],
    offset: Tensor | None = None,
    mask: Tensor | None = None,
    output_size: int | tuple[int, int] = 7,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Tensor:
    """Average of interpolated samples in every bin of every region, bins shifted by `offset`.

    Args:
        input: [N, C, H, W].
        rois: [R, 5], rows (batch index, x1, y1, x2, y2) in image pixels, or boxes per image.
        offset: [R, 2, ph, pw], channel 0 is x, in sizes of the region times gamma.
        mask: [R, 1, ph, pw], multiplies the bins.
        output_size: bins, (ph, pw).
        spatial_scale: pixels of the map per pixel of the image.
        sampling_ratio: samples per side of a bin; 0 for one per pixel, rounded up.
        gamma: scale of the offset.

    Returns:
        [R, C, ph, pw]. The derivative is that of this formula, right-sided at kinks; regions
        receive none.
    """
    table, bins = as_table(rois).detach().to(input.dtype), as_pair(output_size)
    pooled = []
    for index, roi in enumerate(table):
        shift = None if offset is None else offset[index]
        y, x = roi_points(roi, shift, bins, spatial_scale, sampling_ratio, gamma)
        pooled.append(pool_samples(input[int(roi[0])], y, x))
    if not pooled:
        # An empty sum that stays connected to the operands in the graph.
        nothing = zeros(0, input.shape[1], *bins, dtype=input.dtype, device=input.device)
        return nothing + 0 * sum(t.sum() for t in (input, offset, mask) if t is not None)
    out = stack(pooled)
    return out if mask is None else out * mask
