# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the geometry that both libraries share: where samples are and what they weigh.

For CUDA, only one pass is compiled with each.
"""

from suites.mutants.patches import (
    CONV_OF_CPU,
    EQUALS,
    EXTREME,
    FAR,
    KINK,
    POOL,
    POOL_NON_FINITE,
    POOLS_OF_CPU,
    PYRAMID,
    VECTORS,
    Patch,
)

_GRAD_OFFSET_MASK = "grad_offset_mask.cu"


def _conv(name, old, new, detected_by=EQUALS, cuda="forward.cu") -> Patch:
    return Patch(name, "geometry.h", old, new, detected_by, CONV_OF_CPU, (cuda,))


def _pool(name, old, new, detected_by=POOL, cuda=("roi_pool.cu",)) -> Patch:
    return Patch(name, "roi_geometry.h", old, new, detected_by, POOLS_OF_CPU, cuda)


SHARED = [
    _conv(
        "dilation ignored",
        "out * stride - pad + step * dilation",
        "out * stride - pad + step",
    ),
    _conv(
        "padding added instead of subtracted",
        "out * stride - pad + step",
        "out * stride + pad + step",
    ),
    _conv(
        "pad_h used for pad_w",
        "undeformed(out_x, stride_w, pad_w,",
        "undeformed(out_x, stride_w, pad_h,",
    ),
    _conv(
        "stride_h used for stride_w",
        "undeformed(out_x, stride_w,",
        "undeformed(out_x, stride_h,",
    ),
    _conv("taps in column order", "tap / kernel_w, dilation_h", "tap / kernel_h, dilation_h"),
    _conv(
        "samples outside [0, H-1] zero: no interpolation across the border",
        "s.inside = base_y >= T(-1) && base_y < T(height)",
        "s.inside = base_y >= T(0) && base_y < T(height)",
    ),
    _conv(
        "last column never read",
        "right = s.x + 1 < width",
        "right = s.x + 2 < width",
    ),
    _conv("height used for width in the border test", "s.x + 1 < width;", "s.x + 1 < height;"),
    _conv(
        "interpolation weights of two corners exchanged",
        "c.weight[1] = c.valid[1] ? hy * s.lx",
        "c.weight[1] = c.valid[1] ? s.ly * hx",
        cuda="sample_lists.cu",
    ),
    _conv(
        "coordinates truncated instead of floored",
        "const T whole_y = floor_of(dy)",
        "const T whole_y = T(static_cast<int>(dy))",
    ),
    _conv(
        "NaN coordinates not detected",
        "s.nan = dy != dy || dx != dx;",
        "s.nan = false;",
        EXTREME,
    ),
    _conv(
        "fraction of the rounded sum of position and offset",
        "s.lx = near ? dx - whole_x : T(0);",
        "s.lx = near ? (x + dx) - base_x : T(0);",
        FAR,
    ),
    _conv(
        "fraction of an infinite coordinate is infinity - infinity",
        "s.ly = near ? dy - whole_y : T(0);",
        "s.ly = dy - whole_y;",
        EXTREME,
        cuda=_GRAD_OFFSET_MASK,
    ),
    _conv(
        "wrong sign of the slope along y",
        "(T(1) - s.lx) * (v[2] - v[0])",
        "(T(1) - s.lx) * (v[0] - v[2])",
        cuda=_GRAD_OFFSET_MASK,
    ),
    _conv(
        "slope along x weighted along the wrong axis",
        "(T(1) - s.ly) * (v[1] - v[0]) + s.ly * (v[3] - v[2])",
        "(T(1) - s.lx) * (v[1] - v[0]) + s.lx * (v[3] - v[2])",
        cuda=_GRAD_OFFSET_MASK,
    ),
    _conv(
        "no slope at -1, one pixel outside the map",
        "base_y >= T(-1) && base_y < T(height) && base_x >= T(-1)",
        "(base_y > T(-1) || dy > whole_y) && base_y < T(height) && "
        "(base_x > T(-1) || dx > whole_x)",
        KINK,
        cuda=_GRAD_OFFSET_MASK,
    ),
    _conv(
        "deform group taken from the weight group",
        "return in_channels / deform_groups;",
        "return in_channels / groups;",
        cuda="forward.cu",
    ),
    _pool(
        "no half pixel subtracted in the centred pooling",
        "const T start = first * scale - shift;",
        "const T start = first * scale;",
        VECTORS,
    ),
    _pool(
        "RoIs that are not aligned shifted by half a pixel",
        "const T shift = aligned ? T(0.5) : T(0);",
        "const T shift = T(0.5);",
        PYRAMID,
    ),
    _pool(
        "RoIs that are not aligned smaller than a pixel",
        "aligned || extent > T(1) ? extent : T(1)",
        "extent",
        PYRAMID,
    ),
    _pool(
        "end of a RoI without its last pixel",
        "(round_of(last) + T(1)) * scale",
        "round_of(last) * scale",
        VECTORS,
    ),
    _pool(
        "RoIs at least one pixel large",
        "extent > T(0.1) ? extent : T(0.1)",
        "extent > T(1) ? extent : T(1)",
    ),
    _pool(
        "halves rounded to even",
        "DCNV2_HD double round_of(double v) { return round(v); }",
        "DCNV2_HD double round_of(double v) { return rint(v); }",
    ),
    _pool(
        "samples at the corner of their cells",
        "+ T(bin) * size + T(0.5) * step",
        "+ T(bin) * size",
        VECTORS,
    ),
    _pool(
        "number of adaptive samples rounded down",
        "T(sampling) : ceil_of(size)",
        "T(sampling) : floor_of(size)",
    ),
    _pool("part is bin % parts", "return bin * parts / bins;", "return bin % parts;"),
    _pool(
        "group is bin / bins * groups: divided before it is multiplied",
        "return bin * groups / bins;",
        "return bin / bins * groups;",
    ),
    _pool(
        "slope not zero where a position is clamped",
        "s.moves = position >= T(0) && position < last;",
        "s.moves = true;",
    ),
    _pool(
        "samples between -1 and 0 left out",
        "make_axis_sample(position, size, T(-1), T(size));",
        "make_axis_sample(position, size, T(0), T(size));",
    ),
    _pool(
        "samples counted up to the end of the map, half a pixel too far",
        "T(-0.5), T(size) - T(0.5)",
        "T(-0.5), T(size)",
    ),
    _pool(
        "NaN positions treated as off the map",
        "s.counts = is_nan || (position >= below && position <= above);",
        "s.counts = position >= below && position <= above;",
        POOL_NON_FINITE,
        cuda=(),  # whose bins look for NaN by themselves
    ),
]
