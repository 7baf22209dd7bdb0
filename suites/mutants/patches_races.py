# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the CUDA kernels with a race, which compute-sanitizer's racecheck must report."""

from suites.mutants.patches import WIDE, Patch

RACES = [
    Patch(
        "pipeline stage released before it is read",
        "cuda/tiles.cuh",
        """      product.multiply(pipeline.a[state.stage], pipeline.b[state.stage], thread);
      release.mma_issued(state.stage);
""",
        """      release.mma_issued(state.stage);
      product.multiply(pipeline.a[state.stage], pipeline.b[state.stage], thread);
""",
        WIDE,
        cuda=("fused_forward.cu",),
        kernels="mma",
    ),
    Patch(
        "pipeline stage signalled full before its last rows are stored",
        "cuda/bilinear_producer.cuh",
        """    second.template store<M, kSplitBytes>(pending_smem, kItemBytes);
    if constexpr (kCopies) cp_async_wait_all();
    arrive_filled<M>(pending);
""",
        """    arrive_filled<M>(pending);
    second.template store<M, kSplitBytes>(pending_smem, kItemBytes);
    if constexpr (kCopies) cp_async_wait_all();
""",
        WIDE,
        cuda=("fused_forward.cu",),
        kernels="mma",
    ),
]
