// SPDX-License-Identifier: BSD-3-Clause
// The weight as the fused kernels multiply it: for every step (slab of the depth, tap) a tile of
// padded columns x slab, both in the order that slab.cuh says, so that a block's share is one contiguous copy.
#pragma once

#include "../common.cuh"
#include "slab.cuh"

namespace dcnv2::cuda {

// Columns are output channels and the depth is input channels (forward), or the other way round (the
// gradients of what is sampled). Sizes are those of one weight group.
struct PackedWeight {
  int groups, cols, depth, taps;
  int padded_cols;  // a multiple of the kernel's columns a tile
  int slab, slabs;  // elements of depth a step; how many of those
  bool cols_are_out;

  __host__ __device__ int steps() const { return slabs * taps; }
  __host__ __device__ int64_t count() const {
    return int64_t(groups) * steps() * padded_cols * slab;
  }
  // Bytes of a step's tile, and the byte offset of its column `col` at a step (slab * taps + tap).
  __host__ __device__ int step_bytes() const { return padded_cols * kRowBytes; }
  __device__ int64_t tile(int group, int step, int col) const {
    return (int64_t(group) * steps() + step) * step_bytes() + col * kRowBytes;
  }
};

PackedWeight forward_weight(const ConvArgs& a, int tile_cols);
PackedWeight backward_weight(const ConvArgs& a, int tile_cols);
// Writes packed.count() elements, and in_channels zeros behind them.
void launch_pack_weight(const ConvArgs& a, const PackedWeight& packed, void* to, cudaStream_t stream);

}  // namespace dcnv2::cuda
