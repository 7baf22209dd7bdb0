# SPDX-License-Identifier: BSD-3-Clause
"""Faults in the geometry that both libraries share: where samples lie and what they weigh.

On CUDA each is planted in one pass, so that one file is compiled anew.
"""

from suites.mutants.patches import (
    CONV_OF_CPU,
    EQUALS,
    EXTREME,
    KINK,
    POOL,
    POOL_NON_FINITE,
    POOLS_OF_CPU,
    VECTORS,
    Patch,
)


def _conv(name, old, new, detected_by=EQUALS, cuda="forward.cu") -> Patch:
    return Patch(name, "geometry.h", old, new, detected_by, CONV_OF_CPU, (cuda,))


def _pool(name, old, new, detected_by=POOL, cuda=("roi_pool.cu",)) -> Patch:
    return Patch(name, "roi_geometry.h", old, new, detected_by, POOLS_OF_CPU, cuda)


SHARED = [
    _conv(
        "dilation of the kernel left out",
        "out * stride - pad + step * dilation",
        "out * stride - pad + step",
    ),
    _conv("padding added", "out * stride - pad + step", "out * stride + pad + step"),
    _conv(
        "vertical padding used twice",
        "undeformed(out_x, stride_w, pad_w,",
        "undeformed(out_x, stride_w, pad_h,",
    ),
    _conv(
        "vertical stride used twice",
        "undeformed(out_x, stride_w,",
        "undeformed(out_x, stride_h,",
    ),
    _conv("taps counted by columns", "tap / kernel_w, dilation_h", "tap / kernel_h, dilation_h"),
    _conv(
        "a sample within a pixel of the border is zero",
        "s.inside = y >= T(-1) && y < T(height)",
        "s.inside = y >= T(0) && y < T(height)",
    ),
    _conv(
        "last column left out",
        "right = s.x + 1 < width",
        "right = s.x + 2 < width",
    ),
    _conv("height and width exchanged at the border", "s.x + 1 < width;", "s.x + 1 < height;"),
    _conv(
        "weights of two corners exchanged",
        "c.weight[1] = c.valid[1] ? hy * s.lx",
        "c.weight[1] = c.valid[1] ? s.ly * hx",
        cuda="sample_lists.cu",
    ),
    _conv(
        "coordinates cut instead of floored",
        "const T base_y = floor_of(y)",
        "const T base_y = T(static_cast<int>(y))",
    ),
    _conv(
        "nothing of a NaN coordinate is seen",
        "s.nan = y != y || x != x;",
        "s.nan = false;",
        EXTREME,
    ),
    _conv(
        "infinity minus infinity",
        "s.ly = near ? y - base_y : T(0);",
        "s.ly = y - base_y;",
        EXTREME,
        cuda="grad_offset_mask.cu",
    ),
    _conv(
        "slope along y turned round",
        "(T(1) - s.lx) * (v[2] - v[0])",
        "(T(1) - s.lx) * (v[0] - v[2])",
        cuda="grad_offset_mask.cu",
    ),
    _conv(
        "slope along x weighed by the wrong axis",
        "(T(1) - s.ly) * (v[1] - v[0]) + s.ly * (v[3] - v[2])",
        "(T(1) - s.lx) * (v[1] - v[0]) + s.lx * (v[3] - v[2])",
        cuda="grad_offset_mask.cu",
    ),
    _conv(
        "no slope at the border, one pixel outside",
        "y >= T(-1) && y < T(height) && x >= T(-1)",
        "y > T(-1) && y < T(height) && x > T(-1)",
        KINK,
        cuda="grad_offset_mask.cu",
    ),
    _conv(
        "deform group taken from the weight group",
        "return in_channels / deform_groups;",
        "return in_channels / groups;",
        cuda="forward.cu",
    ),
    _pool(
        "centred pooling without the half pixel",
        "const T start = first * scale - T(0.5);",
        "const T start = first * scale;",
        VECTORS,
    ),
    _pool(
        "end of a region without its last pixel",
        "(round_of(last) + T(1)) * scale",
        "round_of(last) * scale",
        VECTORS,
    ),
    _pool(
        "smallest region a whole pixel",
        "extent > T(0.1) ? extent : T(0.1)",
        "extent > T(1) ? extent : T(1)",
    ),
    _pool(
        "halves rounded to even",
        "DCNV2_HD double round_of(double v) { return round(v); }",
        "DCNV2_HD double round_of(double v) { return rint(v); }",
    ),
    _pool(
        "samples at the corner of their share",
        "+ T(bin) * size + T(0.5) * step",
        "+ T(bin) * size",
        VECTORS,
    ),
    _pool(
        "one sample too few a bin, where they are adaptive",
        "T(sampling) : ceil_of(size)",
        "T(sampling) : floor_of(size)",
    ),
    _pool("part of a bin wraps round", "return bin * parts / bins;", "return bin % parts;"),
    _pool(
        "group of a bin divided first",
        "return bin * groups / bins;",
        "return bin / bins * groups;",
    ),
    _pool(
        "slope where the position is clamped",
        "s.moves = position >= T(0) && position < last;",
        "s.moves = true;",
    ),
    _pool(
        "samples off the map by less than a pixel left out",
        "make_axis_sample(position, size, T(-1), T(size));",
        "make_axis_sample(position, size, T(0), T(size));",
    ),
    _pool(
        "samples kept up to the map's end",
        "T(-0.5), T(size) - T(0.5)",
        "T(-0.5), T(size)",
    ),
    _pool(
        "a NaN position is off the map",
        "s.counts = is_nan || (position >= below && position <= above);",
        "s.counts = position >= below && position <= above;",
        POOL_NON_FINITE,
        cuda=(),  # whose bins look for NaN by themselves
    ),
]
