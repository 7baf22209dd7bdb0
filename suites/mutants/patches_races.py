# SPDX-License-Identifier: BSD-3-Clause
"""Races in the kernels of the CUDA library that compute-sanitizer's racecheck must see."""

from suites.mutants.patches import WIDE, Patch

RACES = [
    Patch(
        "a stage given back before it is read",
        "cuda/tiles.cuh",
        """      product.multiply(ring.a[at.stage], ring.b[at.stage], thread);
      release.multiplied(at.stage);
""",
        """      release.multiplied(at.stage);
      product.multiply(ring.a[at.stage], ring.b[at.stage], thread);
""",
        WIDE,
        cuda=("fused_forward.cu",),
        kernels="mma",
    ),
    Patch(
        "a stage called full before its last rows are stored",
        "cuda/bilinear_producer.cuh",
        """    second.template store<M, kPartBytes>(pending_slab, kItemBytes);
    if constexpr (kCopies) wait_copies();
    arrive_filled<M>(pending);
""",
        """    arrive_filled<M>(pending);
    second.template store<M, kPartBytes>(pending_slab, kItemBytes);
    if constexpr (kCopies) wait_copies();
""",
        WIDE,
        cuda=("fused_forward.cu",),
        kernels="mma",
    ),
]
