// SPDX-License-Identifier: BSD-3-Clause
// One 64 x 64 tile of a matrix product whose operands are computed on the fly. Every pass of a
// convolution is such a product; they differ in what they load and where they store the result.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

constexpr int kTile = 64;          // rows and columns of a tile
constexpr int kDepth = 16;         // depth of one step
constexpr int kTileThreads = 256;  // 16 x 16 threads of 4 x 4 results each
constexpr int kPerThread = 4;

// The tiles of a kernel along three axes. A block computes every gridDim.x-th of them.
struct SimtTiles {
  int64_t x, y, z;

  DCNV2_HD int64_t count() const { return x * y * z; }

  // Blocks for them: one each, or few where most launches have nothing to mend.
  unsigned blocks(const ConvArgs& a) const {
    constexpr int64_t kFew = 1024, kMost = 2147483647;
    return unsigned(std::min(count(), a.nonfinite != nullptr ? kFew : kMost));
  }
};

// Calls f(x, y, z) for the block's tiles.
template <class F>
__device__ void for_each_tile(const SimtTiles& tiles, F f) {
  for (int64_t i = blockIdx.x; i < tiles.count(); i += gridDim.x) {
    const int64_t line = i / tiles.x;
    f(i % tiles.x, line % tiles.y, line / tiles.y);
  }
}

// The extent of one product: `rows` x `depth` times `depth` x `cols`.
struct ProductSize {
  int64_t rows, cols, depth;
};

// Adds the results of rows row0 + ty * 4 + i and columns col0 + tx * 4 + j to `sum` of thread (ty,
// tx). a(row, depth) and b(depth, col) are called for valid indices only. Consecutive threads load
// along the depth if kADepthFast / kBDepthFast, otherwise along the rows or columns: whichever is
// contiguous.
template <bool kADepthFast, bool kBDepthFast, class Acc, class LoadA, class LoadB>
__device__ void tile_product(const ProductSize& size, int64_t row0, int64_t col0, LoadA a, LoadB b,
                             Acc (&sum)[kPerThread][kPerThread]) {
  __shared__ Acc tile_a[kDepth][kTile + 1];
  __shared__ Acc tile_b[kDepth][kTile + 1];
  const int tid = threadIdx.x, ty = tid / 16, tx = tid % 16;
  for (int64_t depth0 = 0; depth0 < size.depth; depth0 += kDepth) {
    for (int e = tid; e < kTile * kDepth; e += kTileThreads) {
      const int k = kADepthFast ? e % kDepth : e / kTile, r = kADepthFast ? e / kDepth : e % kTile;
      const bool ok = row0 + r < size.rows && depth0 + k < size.depth;
      tile_a[k][r] = ok ? a(row0 + r, depth0 + k) : Acc(0);
    }
    for (int e = tid; e < kTile * kDepth; e += kTileThreads) {
      const int k = kBDepthFast ? e % kDepth : e / kTile, c = kBDepthFast ? e / kDepth : e % kTile;
      const bool ok = col0 + c < size.cols && depth0 + k < size.depth;
      tile_b[k][c] = ok ? b(depth0 + k, col0 + c) : Acc(0);
    }
    __syncthreads();
    for (int k = 0; k < kDepth; ++k) {
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) {
          sum[i][j] += tile_a[k][ty * kPerThread + i] * tile_b[k][tx * kPerThread + j];
        }
      }
    }
    __syncthreads();
  }
}

}  // namespace dcnv2::cuda
