// SPDX-License-Identifier: BSD-3-Clause
// wgmma of halves with both operands in shared memory, m64n128k16 and m64n64k16. Empty below
// sm_90a, where it is never launched.
#pragma once

#include "cuda/tensor_core/mma/instruction.h"
#include "cuda/tensor_core/mma/ptx_wgmma.cuh"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

// The math warps on Hopper: one warpgroup, which computes kMTiles * kNTiles products of 64 rows and
// up to 128 columns. The producers free registers for it.
template <class T, int kRows, int kCols>
struct Wgmma {
  using element = T;
  static constexpr int kTileRows = kRows, kTileCols = kCols;
  static constexpr int kSplits = 1;
  static constexpr bool kRoundOnStore = false;  // whether producers round operands
  static constexpr bool kSwapAB = false;  // see fused_grad_weight.cuh
  static constexpr bool kBulkCopy = true;  // cp.async.bulk
  static constexpr int kMathThreads = 128, kProducerThreads = 512, kStages = 4;
  static constexpr bool kSupported = kHasWgmma;
  static constexpr int kMTiles = kRows / 64, kNTiles = kCols > 128 ? kCols / 128 : 1;
  static constexpr int kPartCols = kCols / kNTiles;
  // Registers freed by producers (from kLaunchRegisters each) must cover what consumers allocate,
  // or setmaxnreg deadlocks.
  static constexpr int kMathRegisters = 160, kProducerRegisters = 80, kLaunchRegisters = 96;
  static_assert(kMathThreads * (kMathRegisters - kLaunchRegisters) <=
                kProducerThreads * (kLaunchRegisters - kProducerRegisters));
  static __device__ void warpgroup_reg_alloc() { cuda::warpgroup_reg_alloc<kMathRegisters>(); }
  static __device__ void warpgroup_reg_dealloc() {
    cuda::warpgroup_reg_dealloc<kProducerRegisters>();
  }

  float sum[kMTiles][kNTiles][kPartCols / 2] = {};

  __device__ void clear() {
    for (auto& down : sum) {
      for (auto& part : down) {
        for (float& v : part) v = 0;
      }
    }
  }

  static __device__ void fence_proxy_async() { cuda::fence_proxy_async(); }

  // A product runs until the next one is issued, and the last one until finish().
  static constexpr bool kAsync = true;
  __device__ void finish() {
    wgmma_wait<0>();
    for (auto& down : sum) {
      for (auto& part : down) warpgroup_fence_operand(part);
    }
  }

  __device__ void multiply(const char* tile_a, const char* tile_b, int) {
    const uint32_t a = shared_address(tile_a), b = shared_address(tile_b);
    wgmma_fence();
#pragma unroll
    for (int byte = 0; byte < kRowBytes; byte += 32) {
#pragma unroll
      for (int i = 0; i < kMTiles; ++i) {
#pragma unroll
        for (int j = 0; j < kNTiles; ++j) {
          wgmma<T, Major::kK, Major::kK>(sum[i][j],
                                         tile_descriptor(a + i * 64 * kRowBytes + byte, 0),
                                         tile_descriptor(b + j * kPartCols * kRowBytes + byte, 0));
        }
      }
    }
    wgmma_commit();
    wgmma_wait<1>();
  }

  // sums += A^T * B with A [kTileK, kRows] and B [kTileK, kCols], as swizzle atoms of [kTileK, 64
  // halves].
  static constexpr int kTileK = 64;
  __device__ void multiply_transposed(const char* atoms_a, const char* atoms_b, int) {
    constexpr int kAtomBytes = kTileK * kRowBytes, kStepBytes = 16 * kRowBytes;
    const uint32_t a = shared_address(atoms_a), b = shared_address(atoms_b);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTileK / 16; ++step) {
#pragma unroll
      for (int i = 0; i < kMTiles; ++i) {
#pragma unroll
        for (int j = 0; j < kNTiles; ++j) {
          wgmma<T, Major::kMN, Major::kMN>(
              sum[i][j], tile_descriptor(a + i * kAtomBytes + step * kStepBytes, kAtomBytes),
              tile_descriptor(b + j * (kPartCols / 64) * kAtomBytes + step * kStepBytes,
                              kAtomBytes));
        }
      }
    }
    wgmma_commit();
    wgmma_wait<1>();
  }

  static constexpr int kThreadRows = 2 * kMTiles, kThreadPairs = kCols / 8;
  static constexpr int kThreadVecs = kThreadPairs * 2 / kVecSize<T>;
  __device__ static int row(int thread, int i) {
    return i / 2 * 64 + thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8;
  }
  __device__ static int column(int thread) { return thread % 4 * 2; }
  __device__ static int vec_column(int thread, int j) { return (j * 4 + thread % 4) * kVecSize<T>; }
  __device__ float2 pair(int i, int j) const {
    const float (&part)[kPartCols / 2] = sum[i / 2][j / (kPartCols / 8)];
    const int at = j % (kPartCols / 8) * 4 + i % 2 * 2;
    return {part[at], part[at + 1]};
  }
};

// ---- Tiles

// Calls f with a value of the element type.
template <class F>
void dispatch_half(const ConvArgs& a, F f) {
  a.dtype == Dtype::kFloat16 ? f(__half{}) : f(__nv_bfloat16{});
}
template <class Rows, class F>
void dispatch_gemm_tile(ByWgmma, Rows, const ConvArgs& a, int cols, F f) {
  dispatch_half(a, [&](auto element) {
    using T = decltype(element);
    cols == 64    ? f(Type<Wgmma<T, 128, 64>>{})
    : cols == 128 ? f(Type<Wgmma<T, 128, 128>>{})
                  : f(Type<Wgmma<T, 64, 256>>{});
  });
}
template <class F>
void dispatch_grad_weight_tile(ByWgmma by, const ConvArgs& a, int cols, F f) {
  dispatch_gemm_tile(by, Int<128>{}, a, cols, f);
}
// Tiles of 64 channels have 128 pixels, since 64 pixels would be too little work for the threads.
template <class F>
void dispatch_column_tile(ByWgmma, const ConvArgs& a, int cols, F f) {
  dispatch_half(a, [&](auto element) {
    using T = decltype(element);
    cols == 64 ? f(Type<Wgmma<T, 128, 64>>{}) : f(Type<Wgmma<T, 64, 128>>{});
  });
}

}  // namespace dcnv2::cuda
