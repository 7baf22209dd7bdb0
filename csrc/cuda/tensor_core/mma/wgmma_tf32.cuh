// SPDX-License-Identifier: BSD-3-Clause
// wgmma of floats, m64n128k8 and m64n64k8, which reads 11 significand bits. kSplits 1: operands are
// rounded to that (TF32). kSplits 2: operands come as a high and a low part, and three of the four
// products give the accuracy of float32 (3xTF32). Operands are K-major. Empty below sm_90a.
#pragma once

#include "cuda/tensor_core/mma/instruction.h"
#include "cuda/tensor_core/mma/ptx_wgmma.cuh"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

// The accumulators of one warpgroup, or of two that share the rows. Each step is summed in its own
// registers, small products first, and then added to the total in float32, since wgmma truncates
// its own sums.
template <int kRows, int kCols, int kOperandSplits, int kWarpgroupCount>
struct WgmmaTf32Sums {
  using element = float;
  static constexpr int kSplits = kOperandSplits;
  static constexpr bool kRoundOnStore = true;
  static constexpr bool kBulkCopy = true;
  static constexpr int kTileRows = kRows, kTileCols = kCols;
  static constexpr int kMathThreads = 128 * kWarpgroupCount,
                       kProducerThreads = 512 / kWarpgroupCount;
  static constexpr bool kSupported = kHasWgmma;
  static constexpr int kMTiles = kRows / 64 / kWarpgroupCount;
  static constexpr int kLaunchRegisters = kWarpgroupCount == 1 ? 96 : 128;
  static constexpr int kMathRegisters = 160, kProducerRegisters = kWarpgroupCount == 1 ? 80 : 96;
  static_assert(kMathThreads * (kMathRegisters - kLaunchRegisters) <=
                kProducerThreads * (kLaunchRegisters - kProducerRegisters));
  static __device__ void warpgroup_reg_alloc() { cuda::warpgroup_reg_alloc<kMathRegisters>(); }
  static __device__ void warpgroup_reg_dealloc() {
    cuda::warpgroup_reg_dealloc<kProducerRegisters>();
  }

  float sum[kMTiles][kCols / 2] = {};

  __device__ void clear() {
    for (auto& down : sum) {
      for (float& v : down) v = 0;
    }
  }
  __device__ void add(int down, float (&step)[kCols / 2]) {
    warpgroup_fence_operand(step);
#pragma unroll
    for (int i = 0; i < kCols / 2; ++i) sum[down][i] += step[i];
  }

  static __device__ void fence_proxy_async() { cuda::fence_proxy_async(); }

  static constexpr bool kAsync = false;
  __device__ void finish() {}

  static constexpr int kThreadRows = 2 * kMTiles, kThreadPairs = kCols / 8;
  static constexpr int kThreadVecs = kThreadPairs * 2 / kVecSize<float>;
  __device__ static int row(int thread, int i) {
    return i / 2 * 64 + thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8;
  }
  __device__ static int column(int thread) { return thread % 4 * 2; }
  __device__ static int vec_column(int thread, int j) {
    return (j * 4 + thread % 4) * kVecSize<float>;
  }
  __device__ float2 pair(int i, int j) const {
    const float (&down)[kCols / 2] = sum[i / 2];
    return {down[j * 4 + i % 2 * 2], down[j * 4 + i % 2 * 2 + 1]};
  }
};

// Both operands in shared memory, the low part of each after its high part.
template <int kRows, int kCols, int kOperandSplits>
struct WgmmaTf32 : WgmmaTf32Sums<kRows, kCols, kOperandSplits, kRows / 64> {
  using Sums = WgmmaTf32Sums<kRows, kCols, kOperandSplits, kRows / 64>;
  static constexpr bool kSwapAB = false;
  static constexpr int kStages = kRows == 64                   ? 4
                                 : Sums::kSplits * kCols > 128 ? 2
                                                               : 3;  // as many as there is room for

  __device__ void multiply(const char* tile_a, const char* tile_b, int thread) {
    const uint32_t a = shared_address(tile_a) + thread / 128 * 64 * kRowBytes,
                   b = shared_address(tile_b);
    float step[kCols / 2] = {};
    wgmma_fence();
    if constexpr (Sums::kSplits == 2) {
      multiply_split(step, a + kRows * kRowBytes, b);
      multiply_split(step, a, b + kCols * kRowBytes);
    }
    multiply_split(step, a, b);
    wgmma_commit();
    wgmma_wait<0>();
    this->add(0, step);
  }
  static __device__ void multiply_split(float (&step)[kCols / 2], uint32_t a, uint32_t b) {
#pragma unroll
    for (int byte = 0; byte < kRowBytes; byte += 32) {
      wgmma<float, Major::kK, Major::kK>(step, tile_descriptor(a + byte, 0),
                                         tile_descriptor(b + byte, 0));
    }
  }
};

// A comes as unsplit floats, which math threads load into registers and split there; B as above.
template <int kRows, int kOperandSplits>
struct WgmmaTf32Rs : WgmmaTf32Sums<kRows, 64, kOperandSplits, 1> {
  using Sums = WgmmaTf32Sums<kRows, 64, kOperandSplits, 1>;
  static constexpr bool kSwapAB = true;

  // A [kRows, 128 bytes] in the layout of smem_layout.cuh.
  __device__ void multiply(const char* tile_a, const char* tile_b, int thread) {
    static_assert(kRows == 64);
    const int row = thread / 32 * 16 + thread % 16, vec = thread % 32 / 16;
    const uint32_t a = shared_address(tile_a), b = shared_address(tile_b);
    multiply_units<1>(b, 64 * kRowBytes, [&](int, int depth, uint32_t (&v)[4]) {
      ldmatrix_x4(v, a + swizzled_offset(row, depth / kVecSize<float> + vec));
    });
  }

  // A [kTileK, kRows] in swizzle atoms of [kTileK, 128 bytes]. Rows are stored where swapped_row()
  // says, so that the rows that the four lanes of a quad read fall in different banks. B is in
  // tiles of 32 floats of depth, with kSplitBytes from one split to the next.
  static constexpr int kTileK = Sums::kProducerThreads / kRowVecs, kAtomBytes = kTileK * kRowBytes;
  static __device__ int swapped_row(int k) { return (k & ~7) | (k & 3) << 1 | (k >> 2 & 1); }
  template <int kSplitBytes>
  __device__ void multiply_swapped(const char* atoms_a, const char* tiles_b, int thread) {
    const int line = thread / 32 * 16 + thread % 32 / 4, within = line % kRowElements<float>;
    const uint32_t a = shared_address(atoms_a) + line / kRowElements<float> * kAtomBytes +
                       swizzled_offset(swapped_row(thread % 4), within / kVecSize<float>) +
                       within % kVecSize<float> * int(sizeof(float));
    constexpr uint32_t kEightLines = 2 * kVec16Bytes;  // two vectors further, in every permutation
    multiply_units<kTileK / kRowElements<float>>(
        shared_address(tiles_b), kSplitBytes, [&](int down, int depth, uint32_t (&v)[4]) {
          const uint32_t at = a + down * 64 / kRowElements<float> * kAtomBytes + depth * kRowBytes;
          const uint32_t deeper = (at ^ kVec16Bytes) + kRowBytes;
          v[0] = load_shared_word(at);
          v[1] = load_shared_word(at ^ kEightLines);
          v[2] = load_shared_word(deeper);
          v[3] = load_shared_word(deeper ^ kEightLines);
        });
  }

  // Multiplies all rows by one tile of B after the other. load(m_tile, depth, v) loads this
  // thread's fragment of A for eight values of the depth. The next fragments are loaded while
  // products run.
  template <int kTiles, class Load>
  __device__ __forceinline__ void multiply_units(uint32_t b, int split_bytes, Load load) {
    constexpr int kTileBytes = 64 * kRowBytes,
                  kEights = kRowElements<float> / 8;  // steps of a product's depth
    constexpr int kAtOnce = kEights / 2, kHalves = 2 * kTiles * Sums::kMTiles;
    uint32_t high[2][kAtOnce][4], low[2][kAtOnce][4];
    auto take = [&](int half) {
      const int tile = half / 2 / Sums::kMTiles, down = half / 2 % Sums::kMTiles;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        uint32_t v[4];
        load(down, tile * kRowElements<float> + (half % 2 * kAtOnce + i) * 8, v);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          split_tf32<Sums::kSplits>(__uint_as_float(v[j]), high[half % 2][i][j],
                                    low[half % 2][i][j]);
        }
      }
    };
    float step[32];
    auto multiply_split = [&](const uint32_t (&a)[kAtOnce][4], uint32_t at) {
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) wgmma_rs(step, a[i], tile_descriptor(at + i * 32, 0));
    };
    take(0);
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      if (half % 2 == 0) {
        for (float& v : step) v = 0;
      }
      const uint32_t at = b + half / 2 / Sums::kMTiles * kTileBytes + half % 2 * kAtOnce * 32;
      wgmma_fence();
      if constexpr (Sums::kSplits == 2) {
        multiply_split(low[half % 2], at);
        multiply_split(high[half % 2], at + split_bytes);
      }
      multiply_split(high[half % 2], at);
      wgmma_commit();
      if (half + 1 < kHalves) {
        wgmma_wait<1>();  // for those whose operands give way
        take(half + 1);
      }
      if (half % 2 == 1) {
        wgmma_wait<0>();
        this->add(half / 2 % Sums::kMTiles, step);
      }
    }
  }
};

// ---- Tiles

// Calls f(Int<kSplits>).
template <class F>
void dispatch_splits(const ConvArgs& a, F f) {
  a.allow_tf32 ? f(Int<1>{}) : f(Int<2>{});
}
// With tiles of 128 rows there are fewer producer threads.
template <class Rows, class F>
void dispatch_gemm_tile(ByWgmmaTf32, Rows, const ConvArgs& a, int cols, F f) {
  dispatch_splits(a, [&](auto splits) {
    constexpr int kRows = Rows::value, kSplits = decltype(splits)::value;
    cols == 64 ? f(Type<WgmmaTf32<kRows, 64, kSplits>>{})
               : f(Type<WgmmaTf32<kRows, 128, kSplits>>{});
  });
}
template <class F>
void dispatch_grad_weight_tile(ByWgmmaTf32, const ConvArgs& a, int cols, F f) {
  dispatch_splits(a, [&](auto splits) {
    constexpr int kSplits = decltype(splits)::value;
    cols == 64 ? f(Type<WgmmaTf32Rs<64, kSplits>>{}) : f(Type<WgmmaTf32Rs<128, kSplits>>{});
  });
}
template <class F>
void dispatch_column_tile(ByWgmmaTf32, const ConvArgs& a, int, F f) {
  dispatch_splits(a, [&](auto splits) { f(Type<WgmmaTf32Rs<64, decltype(splits)::value>>{}); });
}

}  // namespace dcnv2::cuda
