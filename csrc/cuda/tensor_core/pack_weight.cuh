// SPDX-License-Identifier: BSD-3-Clause
// The weight, packed for the fused kernels: for every step (K tile, tap) a tile of padded columns x
// K tile, in the layout of smem_layout.cuh with columns in the order of column_place(), so that the
// stage of a block is one contiguous copy.
#pragma once

#include "cuda/common/common.cuh"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

// Form of an operand: the number of splits (3xTF32 has a high and a low one), and whether they are
// rounded to what the tensor cores read.
struct OperandForm {
  int parts = 1;
  bool rounded = false;
};

// Columns are output channels and the depth is input channels (forward), or the other way round
// (gradients of the samples). Sizes are those of one weight group.
struct PackedWeight {
  int groups, cols, depth, taps;
  int tile_cols;  // columns of a tile, whose splits are adjacent
  int padded_cols;  // a multiple of tile_cols
  int k_tile_size, k_tiles;  // elements of depth a step; how many of those
  bool cols_are_out;
  OperandForm form;

  __host__ __device__ int steps() const { return k_tiles * taps; }
  __host__ __device__ int64_t count() const {
    return int64_t(groups) * steps() * padded_cols * k_tile_size * form.parts;
  }
  // Bytes of a step, and byte offset of the tile that begins at column `col` of a step (k_tile *
  // taps + tap).
  __host__ __device__ int step_bytes() const { return padded_cols * kRowBytes * form.parts; }
  __device__ int64_t tile(int group, int step, int col) const {
    return (int64_t(group) * steps() + step) * step_bytes() + col * kRowBytes * form.parts;
  }
};

PackedWeight forward_weight(const ConvArgs& a, int tile_cols, OperandForm form);
PackedWeight backward_weight(const ConvArgs& a, int tile_cols, OperandForm form);
// Bytes of the packed weight and of the zeros behind it.
inline size_t packed_weight_bytes(const ConvArgs& a, const PackedWeight& packed) {
  return (packed.count() + a.g.in_channels) * element_size(a.dtype);
}
// Writes packed.count() elements, then in_channels zeros.
void launch_pack_weight(const ConvArgs& a, const PackedWeight& packed, void* to,
                        cudaStream_t stream);

}  // namespace dcnv2::cuda
