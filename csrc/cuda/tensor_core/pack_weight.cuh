// SPDX-License-Identifier: BSD-3-Clause
// The weight as the fused kernels multiply it: for every step (slab of the depth, tap) a tile of
// padded columns x slab, both in the order that smem_layout.cuh says, so that a block's share is one contiguous copy.
#pragma once

#include "cuda/common/common.cuh"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

// How an operand stands: in one part, or in a high and a low one; rounded to what the unit sees of it.
struct OperandForm {
  int parts = 1;
  bool rounded = false;
};

// Columns are output channels and the depth is input channels (forward), or the other way round (the
// gradients of what is sampled). Sizes are those of one weight group.
struct PackedWeight {
  int groups, cols, depth, taps;
  int tile_cols;  // columns whose parts stand one behind the other
  int padded_cols;  // a multiple of them
  int k_tile_size, k_tiles;  // elements of depth a step; how many of those
  bool cols_are_out;
  OperandForm form;

  __host__ __device__ int steps() const { return k_tiles * taps; }
  __host__ __device__ int64_t count() const {
    return int64_t(groups) * steps() * padded_cols * k_tile_size * form.parts;
  }
  // Bytes of a step's tiles, and the byte offset of the one from column `col` on at a step (slab * taps + tap).
  __host__ __device__ int step_bytes() const { return padded_cols * kRowBytes * form.parts; }
  __device__ int64_t tile(int group, int step, int col) const {
    return (int64_t(group) * steps() + step) * step_bytes() + col * kRowBytes * form.parts;
  }
};

PackedWeight forward_weight(const ConvArgs& a, int tile_cols, OperandForm form);
PackedWeight backward_weight(const ConvArgs& a, int tile_cols, OperandForm form);
// Writes packed.count() elements, and in_channels zeros behind them.
void launch_pack_weight(const ConvArgs& a, const PackedWeight& packed, void* to,
                        cudaStream_t stream);

}  // namespace dcnv2::cuda
