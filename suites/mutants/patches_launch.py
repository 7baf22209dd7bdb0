# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of launches of the CUDA kernels, and of loops over tiles and grids."""

from suites.mutants.patches import EQUALS, MANY_BINS, MANY_TILES, STREAM, Patch

_LAUNCH = """<<<tiles.blocks(a), kTileThreads, 0, stream>>>(a, tiles);
  });
"""
_TOO_MANY = _LAUNCH.replace("kTileThreads", "8 * kTileThreads")
_CHECK = '  check(cudaGetLastError(), "forward");\n'


def _file(name, file, old, new, detected_by, built=None, **more) -> Patch:
    sources = (built or file,)
    return Patch(name, f"cuda/{file}", old, new, detected_by, cuda=sources, emulated=False, **more)


LAUNCH = [
    _file(
        "failed launch, reported",
        "forward.cu",
        _LAUNCH,
        _TOO_MANY,
        EQUALS,
        message="dcnv2: forward: invalid argument",
    ),
    _file(
        "failed launch, not checked",
        "forward.cu",
        _LAUNCH + _CHECK,
        _TOO_MANY + "  (void)cudaGetLastError();\n",
        EQUALS,
    ),
    _file(
        "kernels launched on the default stream",
        "operands.h",
        "return static_cast<cudaStream_t>(stream);",
        "return nullptr;",
        STREAM,
        "conv_ops.cpp",
    ),
    _file(
        "pooling kernels launched on the default stream",
        "operands.h",
        "return static_cast<cudaStream_t>(stream);",
        "return nullptr;",
        STREAM,
        "roi_ops.cpp",
    ),
    _file(
        "pointer parameter advanced inside a grid-stride loop",
        "roi_pool.cu",
        "Channels::store(static_cast<T*>(a.output) + i * kCount, value);",
        "a.output = static_cast<T*>(a.output) + i * kCount;\n"
        "    Channels::store(static_cast<T*>(a.output), value);",
        MANY_BINS,
    ),
    _file(
        "pixels of a block's first tile used for its later tiles",
        "tiles.cuh",
        "  pipeline.producer_rows.fill(row0, grid.pixels,",
        "  pipeline.producer_rows.fill(row0 % (int(gridDim.x) * M::kTileRows), grid.pixels,",
        MANY_TILES,
        "fused_forward_wgmma.cu",
        kernels="wgmma",
    ),
    _file(
        "absent mask read",
        "common.cuh",
        "if (a.mask.data != nullptr) {",
        "{",
        EQUALS,
        "forward.cu",
    ),
    Patch(
        "absent mask read",
        "cpu/conv_samples.cpp",
        "operands_.mask ? plane(operands_.mask, channel, pixels) : ones_.data()",
        "plane(operands_.mask, channel, pixels)",
        EQUALS,
        ("conv_samples.cpp",),
    ),
]
