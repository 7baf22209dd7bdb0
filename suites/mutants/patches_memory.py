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
        "buffer of sums one row too small",
        "cpu/roi_pool_passes.h",
        "g.level[level].height * g.level[level].width);",
        "(g.level[level].height - 1) * g.level[level].width);",
        POOL,
        ("deform_roi_pool.cpp",),
    ),
]
