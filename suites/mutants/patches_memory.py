# SPDX-License-Identifier: BSD-3-Clause
"""Mutants with memory errors, which the sanitizers of the CPU library must report."""

from suites.mutants.patches import EQUALS, EXTREME, KERNELS_OF_CPU, POOL, Patch

MEMORY = [
    Patch(
        "row after the image read",
        "geometry.h",
        "bottom = s.inside && s.y + 1 < height;",
        "bottom = s.inside && s.y + 1 <= height;",
        EQUALS,
        ("conv_samples.cpp",),
    ),
    Patch(
        "NaN converted to an integer",
        "geometry.h",
        "s.y = s.inside ? static_cast<int>(base_y) : 0;",
        "s.y = static_cast<int>(base_y);",
        EXTREME,
        KERNELS_OF_CPU,
    ),
    Patch(
        "buffer of sums one column too small",
        "cpu/roi_pool_passes.h",
        "sums_({grads.input ? g_.height : 0, g_.width, kPanel<T>})",
        "sums_({grads.input ? g_.height : 0, g_.width - 1, kPanel<T>})",
        POOL,
        ("deform_roi_pool.cpp",),
    ),
]
