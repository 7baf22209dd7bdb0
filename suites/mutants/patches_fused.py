# SPDX-License-Identifier: BSD-3-Clause
"""Faults in the tensor-core kernels of the CUDA library, each judged on the path that takes it."""

from suites.mutants.patches import EQUALS, TILES, WIDE, Patch


def _file(name, file, old, new, kernels, killer=WIDE, built=None) -> Patch:
    sources = (f"fused/{built or file}",)
    return Patch(name, f"cuda/fused/{file}", old, new, killer, cuda=sources, kernels=kernels)


def _gather(name, old, new, killer=WIDE) -> Patch:
    return Patch(name, "cuda/gather.cu", old, new, killer, cuda=("gather.cu",), kernels="mma")


FUSED = [
    _file(
        "y and x of an offset exchanged in a tile",
        "sampler.cuh",
        """raw.dy = load_raw(a.offset, at);
  raw.dx = load_raw(""",
        """raw.dx = load_raw(a.offset, at);
  raw.dy = load_raw(""",
        "wgmma",
        built="forward.cu",
    ),
    _file(
        "mask of a tile left out at the first corner",
        "sampler.cuh",
        "c.valid[0] ? mask * c.weight[0] : 0",
        "c.valid[0] ? c.weight[0] : 0",
        "mma",
        built="forward.cu",
    ),
    _file(
        "right corner of the last but one column read too far left",
        "sampler.cuh",
        "s.x >= 0 && s.x + 1 < width ? source.pixel_bytes : 0",
        "s.x >= 0 && s.x + 2 < width ? source.pixel_bytes : 0",
        "wgmma",
        built="grad_weight.cu",
    ),
    _file(
        "a NaN coordinate samples zeros in a tile",
        "sampler.cuh",
        "if (s.nan || mask != mask) return {source.zeros, 0, 0, {NAN, 0, 0, 0}};",
        "if (s.nan || mask != mask) return {source.zeros, 0, 0, {0, 0, 0, 0}};",
        "wgmma",
        built="forward.cu",
    ),
    _file(
        "bias of a chunk's first channel for all of them",
        "tiles.cuh",
        "ring.bias[column + k]",
        "ring.bias[column]",
        "mma",
        built="forward.cu",
    ),
    _file(
        "float32 multiplied with 11 bits of an operand",
        "multiply.cuh",
        """    multiply_tf32(part, al, bh);
""",
        "",
        "mma",
        built="forward.cu",
    ),
    _file(
        "low part of the packed weight left out",
        "pack_weight.cu",
        "packed.tile_cols * kRowBytes) = low;",
        "packed.tile_cols * kRowBytes) = {};",
        "wgmma",
    ),
    _file(
        "packed weight of the first weight group for all",
        "pack_weight.cu",
        "group * a.g.group_out() + out",
        "out",
        "wgmma",
    ),
    _file(
        "packed kernel transposed",
        "pack_weight.cu",
        "in, tap / kernel_w, tap % kernel_w)",
        "in, tap % a.g.kernel_h, tap / a.g.kernel_h)",
        "mma",
    ),
    _file(
        "packed weight's columns as they lie in memory",
        "pack_weight.cu",
        "chunk_offset(column_place<T>(tile_col), chunk % kChunks)",
        "chunk_offset(tile_col, chunk % kChunks)",
        "wgmma",
    ),
    Patch(
        "cells between two samples left out of the lists' starts",
        "cuda/sorted_samples.cu",
        "for (uint32_t key = first; key < end; ++key)",
        "for (uint32_t key = end - (first < end); key < end; ++key)",
        WIDE,
        cuda=("sorted_samples.cu",),
        kernels="mma",
    ),
    _file(
        "entries of a pixel beyond the eighth left out",
        "grad_input.cu",
        "for (uint32_t begin = kShared; begin < most[i]; begin += kShared) {",
        "for (uint32_t begin = kShared; begin < kShared; begin += kShared) {",
        "mma",
        TILES,
    ),
    _file(
        "samples of the tap before gathered",
        "grad_input.cu",
        "next[i] = entries(key0[i], next_tap);",
        "next[i] = entries(key0[i], max(next_tap - 1, 0));",
        "wgmma",
    ),
    _file(
        "weight's gradient samples the first weight group",
        "grad_weight.cu",
        "channel[i] = tile.group * depth + within;",
        "channel[i] = within;",
        "wgmma",
    ),
    _file(
        "samples of the table before looked up for the weight's gradient",
        "grad_weight.cu",
        "lookups.template ask<kShareReadings>(step0 + kTurns, shared.pixels[side ^ 1]);",
        "lookups.template ask<kShareReadings>(step0, shared.pixels[side ^ 1]);",
        "wgmma",
    ),
    _file(
        "neighbouring output channels exchanged in the weight's gradient",
        "grad_weight.cu",
        "*reinterpret_cast<float2*>(to) = pair;",
        "*reinterpret_cast<float2*>(to) = {pair.y, pair.x};",
        "mma",
    ),
    _file(
        "a tile of the weight's gradient that blocks share taken for a whole one",
        "grad_weight.cu",
        "if (tile < cut.whole) return sum;",
        "if (tile < cut.whole + 1) return sum;",
        "wgmma",
        "test_conv_definition.py::test_gradient_of_a_large_weight_is_exact_for_whole_numbers",
    ),
    _file(
        "float32's pixels of grad_output not where the product reads them",
        "wgmma_float.cuh",
        "return (k & ~7) | (k & 3) << 1 | (k >> 2 & 1);",
        "return k ^ (k >> 3 & 1);",
        "wgmma",
        built="grad_weight.cu",
    ),
    _file(
        "low part of float32's rows left out of the product",
        "wgmma_float.cuh",
        "        multiply_parts(low[half % 2], at);\n",
        "",
        "wgmma",
        built="grad_offset_mask.cu",
    ),
    _file(
        "a float32's place in its column mistaken where samples stand across",
        "multiply.cuh",
        "split_tf32<M::kParts>(far ? one[(i + 2) % 4] : one[i], high, low);",
        "split_tf32<M::kParts>(one[i], high, low);",
        "wgmma",
        built="grad_weight.cu",
    ),
    _file(
        "entries on their way are those of the slab before",
        "grad_input.cu",
        "after.wanted ? count[i] : 0, after.base, ahead);",
        "after.wanted ? count[i] : 0, part.base, ahead);",
        "wgmma",
        built="grad_input.cu",
    ),
    _file(
        "mask left out of the offset's gradient of a tile",
        "dots.cuh",
        "return w.z * (output == kGradY",
        "return (output == kGradY",
        "wgmma",
        built="grad_offset_mask.cu",
    ),
    _file(
        "corners off the map count in a slope",
        "dots.cuh",
        "on_map >> corner & 1 ? dots[corner] : 0",
        "dots[corner]",
        "mma",
        built="grad_offset_mask.cu",
    ),
    _file(
        "dot products of a chunk's first half alone",
        "dots.cuh",
        "multiply_halves(sum[corner], {0, grad.z, 0, grad.w}, {v.z, v.w}, T{});",
        "",
        "wgmma",
        TILES,
        built="grad_offset_mask.cu",
    ),
    _file(
        "dot products of the tap before kept",
        "dots.cuh",
        "      d[0] = d[1] = 0;\n",
        "",
        "mma",
        built="grad_offset_mask.cu",
    ),
    _file(
        "crowded pixels left out",
        "grad_input.cu",
        "if (!shared.crowded[row]) continue;",
        "continue;",
        "wgmma",
        TILES,
    ),
    _gather(
        "right corners taken for left ones where samples are gathered",
        "sum[0][i] + __shfl_up_sync(0xffffffffu, sum[1][i], strip.lanes)",
        "sum[1][i] + __shfl_up_sync(0xffffffffu, sum[0][i], strip.lanes)",
    ),
    _gather(
        "lower corners of the line above a strip left out",
        "below[i] = sum[2][i] +",
        "below[i] = (y < first_y ? 0 : sum[2][i]) +",
    ),
    Patch(
        "parts of a crowd that begin within a stretch taken for those that begin with it",
        "cuda/crowd_parts.cuh",
        "2 * int64_t(at / stretch) + (at % stretch != 0)",
        "2 * int64_t(at / stretch)",
        "test_conv_definition.py::test_many_samples_of_one_pixel_add_up",
        cuda=("gather.cu",),
        kernels="mma",
    ),
    _file(
        "crowded cell's sums of one corner taken for all",
        "grad_input.cu",
        "(number * 4 + corner) * f.crowds.channels",
        "number * 4 * f.crowds.channels",
        "wgmma",
        TILES,
    ),
    _file(
        "cells that are no crowd left out of a crowded pixel",
        "grad_input.cu",
        "for (uint32_t i = cell.begin + group; i < cell.end; i += kGroups) {",
        "for (uint32_t i = cell.end; i < cell.end; i += kGroups) {",
        "mma",
        TILES,
    ),
    _file(
        "samples of a crowd that its lanes share left out but for one lane's",
        "crowds.cu",
        "for (int step = kLaneChunks; step < 32; step *= 2)",
        "for (int step = 32; step < 32; step *= 2)",
        "wgmma",
        TILES,
    ),
    _file(
        "weights of a column's neighbour stored beside it",
        "dots.cuh",
        "from_neighbour(either(odd, column, weights))",
        "from_neighbour(either(odd, weights, column))",
        "wgmma",
        "test_conv_definition.py::test_many_samples_of_one_pixel_add_up",
        built="grad_offset_mask.cu",
    ),
    Patch(
        "copy of a map written before its tile is whole",
        "cuda/copy.cu",
        """  __syncthreads();
  visit(to""",
        "  visit(to",
        EQUALS,
        cuda=("copy.cu",),
        emulated=False,  # Python brings operands into their layout there
    ),
]
