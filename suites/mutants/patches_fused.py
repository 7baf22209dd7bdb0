# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the tensor-core kernels of the CUDA library; each runs on the path that uses it."""

from suites.mutants.patches import EXTREME, GROUPS, NOT_FINITE, TILES, WIDE, Patch

_BILINEAR_PRODUCER = "bilinear_producer.cuh"
_CORNER_DOTS = "corner_dots.cuh"
_FUSED_FORWARD = "fused_forward.cu"
_FUSED_GRAD_INPUT = "fused_grad_input.cu"
_FUSED_GRAD_OFFSET_MASK = "fused_grad_offset_mask.cu"
_FUSED_GRAD_WEIGHT = "fused_grad_weight.cu"
_FUSED_INPUT_OFFSET_MASK = "fused_grad_input_offset_mask.cu"
_PACK_WEIGHT = "pack_weight.cu"


def _file(name, file, old, new, kernels, detected_by=WIDE, built=None) -> Patch:
    sources = (built or file,)
    return Patch(name, f"cuda/{file}", old, new, detected_by, cuda=sources, kernels=kernels)


def _gather(name, old, new, detected_by=WIDE) -> Patch:
    return Patch(name, "cuda/gather.cu", old, new, detected_by, cuda=("gather.cu",), kernels="mma")


FUSED = [
    _file(
        "producer: y and x of an offset exchanged",
        _BILINEAR_PRODUCER,
        """raw.dy = load_raw(a.offset, at);
  raw.dx = load_raw(""",
        """raw.dx = load_raw(a.offset, at);
  raw.dy = load_raw(""",
        "wgmma",
        built=_FUSED_FORWARD,
    ),
    _file(
        "producer: mask dropped at the first corner",
        _BILINEAR_PRODUCER,
        "c.valid[0] ? mask * c.weight[0] : 0",
        "c.valid[0] ? c.weight[0] : 0",
        "mma",
        built=_FUSED_FORWARD,
    ),
    _file(
        "producer: right corner dropped in the last column but one",
        _BILINEAR_PRODUCER,
        "s.x >= 0 && s.x + 1 < width ? source.pixel_bytes : 0",
        "s.x >= 0 && s.x + 2 < width ? source.pixel_bytes : 0",
        "wgmma",
        built=_FUSED_GRAD_WEIGHT,
    ),
    _file(
        "producer: NaN coordinates sample zero",
        _BILINEAR_PRODUCER,
        "if (s.nan || mask != mask) return {source.zeros, 0, 0, {NAN, 0, 0, 0}};",
        "if (s.nan || mask != mask) return {source.zeros, 0, 0, {0, 0, 0, 0}};",
        "wgmma",
        EXTREME,
        built=_FUSED_FORWARD,
    ),
    _file(
        "bias of a vector's first channel used for all of the vector",
        "tiles.cuh",
        "pipeline.bias[column + k]",
        "pipeline.bias[column]",
        "mma",
        built=_FUSED_FORWARD,
    ),
    _file(
        "3xTF32 without the low part of an operand",
        "mma_sync.cuh",
        """    mma_m16n8k8_tf32(part, al, bh);
""",
        "",
        "mma",
        built=_FUSED_FORWARD,
    ),
    _file(
        "packed weight: low part zero",
        _PACK_WEIGHT,
        "packed.tile_cols * kRowBytes) = low;",
        "packed.tile_cols * kRowBytes) = {};",
        "wgmma",
    ),
    _file(
        "packed weight: first weight group used for all",
        _PACK_WEIGHT,
        "first_out = group * a.g.group_out();",
        "first_out = 0;",
        "wgmma",
    ),
    _file(
        "packed weight: kernel transposed",
        _PACK_WEIGHT,
        "row = tap / kernel_w, column = tap % kernel_w;",
        "row = tap % int(a.g.kernel_h), column = tap / int(a.g.kernel_h);",
        "mma",
    ),
    _file(
        "merged groups: weights off the diagonal",
        _PACK_WEIGHT,
        "if (!blocks.on_diagonal(o, c)) continue;",
        "",
        "wgmma",
        GROUPS,
    ),
    _file(
        "merged groups: gradients off the diagonal stored",
        "store_weight.cuh",
        "if (!blocks.on_diagonal(o0 + i, row % channels)) continue;",
        "",
        "wgmma",
        GROUPS,
        built=_FUSED_GRAD_WEIGHT,
    ),
    _file(
        "merged groups: NaN of another group in the output",
        _FUSED_FORWARD,
        "if (a.merged_groups > 1) launch_simt_forward(unmerge_groups(flagged), stream);",
        "",
        "wgmma",
        NOT_FINITE,
    ),
    _file(
        "merged groups: NaN of another group in grad_input",
        _FUSED_GRAD_INPUT,
        "if (a.merged_groups > 1) {",
        "if (false) {",
        "mma",
        NOT_FINITE,
    ),
    _file(
        "merged groups: NaN of another group in grad_offset",
        _FUSED_INPUT_OFFSET_MASK,
        "if (a.merged_groups > 1) launch_simt_grad_offset_mask(unmerge_groups(a), stream);",
        "",
        "wgmma",
        NOT_FINITE,
    ),
    _file(
        "grad_offset: only the first block's partial sum",
        _FUSED_INPUT_OFFSET_MASK,
        "block < blocks; ++block",
        "block < 1; ++block",
        "wgmma",
        GROUPS,
    ),
    _file(
        "grad_offset: grad_output of the first weight groups in every block",
        _FUSED_GRAD_OFFSET_MASK,
        "(S::kGrouped ? blockIdx.y * groups * outputs : 0)",
        "0",
        "wgmma",
        GROUPS,
    ),
    _file(
        "packed weight: columns not permuted",
        _PACK_WEIGHT,
        "swizzled_offset(column_place<T>(tile_col), vec % kRowVecs)",
        "swizzled_offset(tile_col, vec % kRowVecs)",
        "wgmma",
    ),
    Patch(
        "CSR row offsets of empty cells not written",
        "cuda/sorted_samples.cu",
        "for (uint32_t key = first; key < end; ++key)",
        "for (uint32_t key = end - (first < end); key < end; ++key)",
        WIDE,
        cuda=("sorted_samples.cu",),
        kernels="mma",
    ),
    _file(
        "grad_input: entries of a pixel after the eighth left out",
        _FUSED_GRAD_INPUT,
        "for (uint32_t begin = Add::kShared; begin < most[i]; begin += Add::kShared) {",
        "for (uint32_t begin = Add::kShared; begin < Add::kShared; begin += Add::kShared) {",
        "mma",
        TILES,
    ),
    _file(
        "grad_input: samples of the previous tap gathered",
        _FUSED_GRAD_INPUT,
        "next[i] = finder.entries(key0[i], next_tap);",
        "next[i] = finder.entries(key0[i], max(next_tap - 1, 0));",
        "wgmma",
    ),
    _file(
        "grad_weight: first weight group's channels sampled for all",
        _FUSED_GRAD_WEIGHT,
        "channel[i] = tile.group * depth + within;",
        "channel[i] = within;",
        "wgmma",
    ),
    _file(
        "grad_weight: samples of the previous table used",
        _FUSED_GRAD_WEIGHT,
        "<kShareAddresses>(step0 + kTableSteps, shared.pixels[buffer ^ 1]);",
        "<kShareAddresses>(step0, shared.pixels[buffer ^ 1]);",
        "wgmma",
    ),
    _file(
        "grad_weight: neighbouring output channels exchanged",
        _FUSED_GRAD_WEIGHT,
        "*reinterpret_cast<float2*>(to) = pair;",
        "*reinterpret_cast<float2*>(to) = {pair.y, pair.x};",
        "mma",
    ),
    _file(
        "grad_weight: a split tile treated as unsplit",
        "split_k_plan.cuh",
        "if (tile < plan.unsplit_tiles) return sum;",
        "if (tile < plan.unsplit_tiles + 1) return sum;",
        "wgmma",
        "test_conv_definition.py::test_gradient_of_a_large_weight_is_exact_for_whole_numbers",
        built=_FUSED_GRAD_WEIGHT,
    ),
    _file(
        "float32 grad_output: pixels not permuted for the product",
        "wgmma_tf32.cuh",
        "return (k & ~7) | (k & 3) << 1 | (k >> 2 & 1);",
        "return k ^ (k >> 3 & 1);",
        "wgmma",
        built=_FUSED_GRAD_WEIGHT,
    ),
    _file(
        "3xTF32 wgmma without the low part of the rows",
        "wgmma_tf32.cuh",
        "        multiply_split(low[half % 2], at);\n",
        "",
        "wgmma",
        built=_FUSED_GRAD_OFFSET_MASK,
    ),
    _file(
        "float32 mma: wrong position in a column when operands are swapped",
        "mma_sync.cuh",
        "split_tf32<M::kSplits>(far ? one[(i + 2) % 4] : one[i], high, low);",
        "split_tf32<M::kSplits>(one[i], high, low);",
        "wgmma",
        built=_FUSED_GRAD_WEIGHT,
    ),
    _file(
        "grad_input: prefetched entries are those of the previous K tile",
        _FUSED_GRAD_INPUT,
        "after.valid ? count[i] : 0, after.base,",
        "after.valid ? count[i] : 0, slice.base,",
        "wgmma",
        built=_FUSED_GRAD_INPUT,
    ),
    _file(
        "tensor-core grad_offset: mask dropped",
        _CORNER_DOTS,
        "return w.z * (output == kGradY",
        "return (output == kGradY",
        "wgmma",
        built=_FUSED_GRAD_OFFSET_MASK,
    ),
    _file(
        "tensor-core grad_offset: corners off the map not masked",
        _CORNER_DOTS,
        "on_map >> corner & 1 ? dots[corner] : 0",
        "dots[corner]",
        "mma",
        built=_FUSED_GRAD_OFFSET_MASK,
    ),
    _file(
        "tensor-core grad_offset: dot products of half a vector",
        _CORNER_DOTS,
        "mma_m16n8k16(sum[corner], {0, grad.z, 0, grad.w}, {v.z, v.w}, T{});",
        "",
        "wgmma",
        TILES,
        built=_FUSED_GRAD_OFFSET_MASK,
    ),
    _file(
        "tensor-core grad_offset: dot products of the previous tap not cleared",
        _CORNER_DOTS,
        "      d[0] = d[1] = 0;\n",
        "",
        "mma",
        built=_FUSED_GRAD_OFFSET_MASK,
    ),
    _file(
        "grad_input: pixels of oversized cells left out",
        "oversized_rows.cuh",
        "if (!shared.oversized[row]) continue;",
        "continue;",
        "wgmma",
        TILES,
        built=_FUSED_GRAD_INPUT,
    ),
    _gather(
        "gather: right corners weighted as left ones",
        "sum[0][i] + __shfl_up_sync(0xffffffffu, sum[1][i], strip.lanes)",
        "sum[1][i] + __shfl_up_sync(0xffffffffu, sum[0][i], strip.lanes)",
    ),
    _gather(
        "gather: lower corners of the line above a strip left out",
        "below[i] = sum[2][i] +",
        "below[i] = (y < first_y ? 0 : sum[2][i]) +",
    ),
    Patch(
        "segments that start inside a segment length treated as starting at it",
        "cuda/split_cells.cuh",
        "2 * int64_t(at / segment_length) + (at % segment_length != 0)",
        "2 * int64_t(at / segment_length)",
        "test_conv_definition.py::test_many_samples_of_one_pixel_add_up",
        cuda=("gather.cu",),
        kernels="mma",
    ),
    _file(
        "grad_input: one corner's sums of an oversized cell used for all",
        "split_cells.cuh",
        "(segment * 4 + corner) * channels",
        "segment * 4 * channels",
        "wgmma",
        TILES,
        built=_FUSED_GRAD_INPUT,
    ),
    _file(
        "grad_input: normal cells left out of a pixel that has an oversized one",
        "oversized_rows.cuh",
        "for (uint32_t i = cell.begin + group; i < cell.end; i += kGroups) {",
        "for (uint32_t i = cell.end; i < cell.end; i += kGroups) {",
        "mma",
        TILES,
        built=_FUSED_GRAD_INPUT,
    ),
    _file(
        "only one lane's samples of an oversized cell summed",
        "split_cells.cu",
        "for (int step = kLaneVecs; step < 32; step *= 2)",
        "for (int step = 32; step < 32; step *= 2)",
        "wgmma",
        TILES,
    ),
    _file(
        "columns stored with the neighbouring column's weights",
        "column_store.cuh",
        "from_neighbour(either(odd, column, weights))",
        "from_neighbour(either(odd, weights, column))",
        "wgmma",
        "test_conv_definition.py::test_many_samples_of_one_pixel_add_up",
        built=_FUSED_GRAD_OFFSET_MASK,
    ),
]
