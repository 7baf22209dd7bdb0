# SPDX-License-Identifier: BSD-3-Clause
"""Faults that a sanitizer of the CPU library must see, whatever they do to results."""

from suites.mutants.patches import EQUALS, EXTREME, KERNELS_OF_CPU, POOL, Patch

MEMORY = [
    Patch(
        "the row behind the image is read",
        "geometry.h",
        "bottom = s.inside && s.y + 1 < height;",
        "bottom = s.inside && s.y + 1 <= height;",
        EQUALS,
        ("conv_samples.cpp",),
    ),
    Patch(
        "a NaN becomes an integer",
        "geometry.h",
        "s.y = s.inside ? static_cast<int>(base_y) : 0;",
        "s.y = static_cast<int>(base_y);",
        EXTREME,
        KERNELS_OF_CPU,
    ),
    Patch(
        "sums of one column too few",
        "cpu/roi_pool_passes.h",
        "sums_({grads.input ? g_.height : 0, g_.width, kPanel<T>})",
        "sums_({grads.input ? g_.height : 0, g_.width - 1, kPanel<T>})",
        POOL,
        ("deform_roi_pool.cpp",),
    ),
]
