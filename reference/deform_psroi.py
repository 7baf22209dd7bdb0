# SPDX-License-Identifier: BSD-3-Clause
"""Position-sensitive deformable RoI pooling, as the authors' MXNet operator defines it.

deformable_psroi_pooling.cu of msracver/Deformable-ConvNets: rounded regions, samples at the
corner of each sub-bin, samples off the map left out of the mean.
"""

from collections.abc import Sequence

from torch import Tensor, arange, copysign, stack, where, zeros, zeros_like

from reference.bilinear import interpolate_clamped
from reference.rois import as_pair, as_table


def _round_half_away(value: Tensor) -> Tensor:
    """Round halves away from zero, as in C."""
    return copysign((value.abs() + 0.5).floor(), value)


def psroi_points(
    roi: Tensor,
    shift: Tensor | None,
    output_size: int,
    spatial_scale: float,
    part_size: int,
    sample_per_part: int,
    trans_std: float,
) -> tuple[Tensor, Tensor]:
    """Sample points of one region, in pixels of the map.

    Args:
        roi: [5].
        shift: [2*classes, part, part], channel 2c is x of class c, 2c+1 its y; None for zero.
        output_size: bins per side, P.
        spatial_scale: pixels of the map per pixel of the image.
        part_size: parts per side that share an offset.
        sample_per_part: samples per side of a bin, S.
        trans_std: scale of the offset, in sizes of the region.

    Returns:
        Rows [classes, P, P, S, 1] and columns [classes, P, P, 1, S].
    """
    like = {"dtype": roi.dtype, "device": roi.device}
    x1, y1, x2, y2 = _round_half_away(roi[1:]).unbind()
    x0, y0 = x1 * spatial_scale - 0.5, y1 * spatial_scale - 0.5
    width = ((x2 + 1) * spatial_scale - 0.5 - x0).clamp(min=0.1)
    height = ((y2 + 1) * spatial_scale - 0.5 - y0).clamp(min=0.1)
    bin_h, bin_w = height / output_size, width / output_size

    place = arange(output_size, device=roi.device)
    part = place * part_size // output_size
    y = (place * bin_h + y0).view(1, -1, 1, 1, 1).expand(1, -1, output_size, 1, 1)
    x = (place * bin_w + x0).view(1, 1, -1, 1, 1).expand(1, output_size, -1, 1, 1)
    if shift is not None:
        moved = shift[:, part[:, None], part[None, :]] * trans_std  # [2*classes, P, P]
        x = x + (moved[0::2] * width)[..., None, None]
        y = y + (moved[1::2] * height)[..., None, None]
    step = arange(sample_per_part, **like)
    y = y + step.view(1, 1, 1, -1, 1) * bin_h / sample_per_part
    x = x + step.view(1, 1, 1, 1, -1) * bin_w / sample_per_part
    return y, x


def _pool(image: Tensor, y: Tensor, x: Tensor, group_size: int) -> Tensor:
    """Mean over the samples of each bin that lie on the map, 0 where none does; [C_out, P, P]."""
    channels, height, width = image.shape
    classes, bins, _, samples, _ = y.shape
    out_channels = channels // group_size**2
    full = (classes, bins, bins, samples, samples)
    y, x = y.expand(full), x.expand(full)
    skipped = (y < -0.5) | (y > height - 0.5) | (x < -0.5) | (x > width - 0.5)
    skipped = skipped & ~(y.isnan() | x.isnan())  # NaN is not outside the map

    # Output channel c of class k in bin (i, j) reads input channel (c*G + gh)*G + gw.
    place = arange(bins, device=image.device)
    group = (place * group_size // bins).clamp(0, group_size - 1)
    maps = image.reshape(classes, out_channels // classes, group_size, group_size, height, width)
    maps = maps[:, :, group[:, None], group[None, :]]  # [classes, C_out/classes, P, P, H, W]
    maps = maps.permute(0, 2, 3, 1, 4, 5).reshape(-1, out_channels // classes, height, width)
    points = (classes * bins * bins, samples * samples)
    values = interpolate_clamped(maps, y.reshape(points), x.reshape(points))
    left_out = skipped.reshape(points)[:, None]
    count = (~left_out).sum(2)  # [classes*P*P, 1]
    mean = where(left_out, zeros_like(values), values).sum(2) / count.clamp(min=1)
    mean = mean.view(classes, bins, bins, out_channels // classes)
    return mean.permute(0, 3, 1, 2).reshape(out_channels, bins, bins)


def deform_psroi_pool(
    input: Tensor,
    rois: Tensor | Sequence[Tensor],
    offset: Tensor | None = None,
    mask: Tensor | None = None,
    output_size: int | tuple[int, int] = 7,
    spatial_scale: float = 1.0,
    group_size: int = 1,
    part_size: int | None = None,
    sample_per_part: int = 4,
    trans_std: float = 0.1,
) -> Tensor:
    """Position-sensitive average of samples in every bin of every region.

    Args:
        input: [N, C_out*G*G, H, W], G = group_size.
        rois: [R, 5], rows (batch index, x1, y1, x2, y2) in image pixels, or boxes per image.
        offset: [R, 2*classes, part, part], channel 2c is x of class c, 2c+1 its y.
        mask: [R, 1, P, P], multiplies the bins.
        output_size: bins per side, P.
        spatial_scale: pixels of the map per pixel of the image.
        group_size: groups per side of position-sensitive channels.
        part_size: parts per side that share an offset; None for P.
        sample_per_part: samples per side of a bin.
        trans_std: scale of the offset.

    Returns:
        [R, C_out, P, P]. The derivative is that of this formula, right-sided at kinks; regions
        receive none.
    """
    table, bins = as_table(rois).detach().to(input.dtype), as_pair(output_size)[0]
    pooled = []
    for index, roi in enumerate(table):
        shift = None if offset is None else offset[index]
        part = part_size or bins
        y, x = psroi_points(roi, shift, bins, spatial_scale, part, sample_per_part, trans_std)
        pooled.append(_pool(input[int(roi[0])], y, x, group_size))
    if not pooled:
        # An empty sum that stays connected to the operands in the graph.
        shape = (0, input.shape[1] // group_size**2, bins, bins)
        nothing = zeros(shape, dtype=input.dtype, device=input.device)
        return nothing + 0 * sum(t.sum() for t in (input, offset, mask) if t is not None)
    out = stack(pooled)
    return out if mask is None else out * mask
