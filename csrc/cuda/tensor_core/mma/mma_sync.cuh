// SPDX-License-Identifier: BSD-3-Clause
// The math warps before Hopper, by mma.sync: sums += A * B^T over one stage, with A [kRows, 128
// bytes] and B [kCols, 128 bytes] in the layout of smem_layout.cuh, or sums += A^T * B for operands
// that are contiguous along the other axis. From sm_80 on. Wgmma (wgmma.cuh) and WgmmaTf32
// (wgmma_tf32.cuh) have the same interface on sm_90a.
#pragma once

#include "cuda/tensor_core/mma/instruction.h"
#include "cuda/tensor_core/mma/ptx_mma.cuh"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

// One mma.sync for each type: d[16, 8] += a[16, 32 bytes] * b[8, 32 bytes]^T.
struct HalfProduct {
  using element = __half;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16(d, a, b, __half{});
  }
};
struct BFloat16Product {
  using element = __nv_bfloat16;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16(d, a, b, __nv_bfloat16{});
  }
};

// TF32: operands rounded to 11 significand bits.
struct Tf32Product {
  using element = float;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t ra[4], rb[2];
    for (int i = 0; i < 4; ++i) ra[i] = to_tf32(__uint_as_float(a[i]));
    for (int i = 0; i < 2; ++i) rb[i] = to_tf32(__uint_as_float(b[i]));
    mma_m16n8k8_tf32(d, ra, rb);
  }
};
// 3xTF32: operands split into two parts of 11 bits each, and three of the four products, which
// gives the accuracy of float32. The small products are added up before the large one, so that they
// are not lost.
struct Float32Product {
  using element = float;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t ah[4], al[4], bh[2], bl[2];
    for (int i = 0; i < 4; ++i) split_tf32<2>(__uint_as_float(a[i]), ah[i], al[i]);
    for (int i = 0; i < 2; ++i) split_tf32<2>(__uint_as_float(b[i]), bh[i], bl[i]);
    float part[4] = {};
    mma_m16n8k8_tf32(part, al, bh);
    mma_m16n8k8_tf32(part, ah, bl);
    mma_m16n8k8_tf32(part, ah, bh);
    for (int i = 0; i < 4; ++i) d[i] += part[i];
  }
};

// Eight warps, each with 32 rows and an equal share of the columns.
template <class Product, int kRows, int kCols>
struct MmaSync {
  using element = typename Product::element;
  static constexpr int kTileRows = kRows, kTileCols = kCols;
  static constexpr int kSplits = 1;
  static constexpr bool kRoundOnStore = false, kSwapAB = false;
  static constexpr bool kBulkCopy = false;
  static constexpr int kMathThreads = 256, kProducerThreads = 256;
  static constexpr int kStages = kCols == 64 ? 2 : 3;  // as many as the least chip has room for
  static constexpr bool kSupported = true;
  static __device__ void warpgroup_reg_alloc() {}
  static __device__ void warpgroup_reg_dealloc() {}
  static constexpr int kMWarps = kRows / 32, kNWarps = 8 / kMWarps;
  static constexpr int kWarpCols = kCols / kNWarps, kColTiles = kWarpCols / 8;
  static_assert(kMWarps * kNWarps == 8 && kWarpCols % 16 == 0);

  float sum[2][kColTiles][4] = {};

  __device__ void clear() {
    for (auto& rows : sum) {
      for (auto& tile : rows) {
        for (float& v : tile) v = 0;
      }
    }
  }

  static __device__ void fence_proxy_async() {}  // the product reads as any load does

  // The stage may be overwritten once every math thread has returned from multiply().
  static constexpr bool kAsync = false;
  __device__ void finish() {}
  __device__ void multiply(const char* tile_a, const char* tile_b, int thread) {
    const int lane = thread % 32, warp = thread / 32;
    const int row0 = warp / kNWarps * 32, col0 = warp % kNWarps * kWarpCols;
    const uint32_t a_base = shared_address(tile_a), b_base = shared_address(tile_b);
#pragma unroll
    for (int vec = 0; vec < kRowVecs; vec += 2) {
      uint32_t a[2][4];
      for (int i = 0; i < 2; ++i) {
        ldmatrix_x4(a[i], a_base + swizzled_offset(row0 + i * 16 + lane % 16, vec + lane / 16));
      }
#pragma unroll
      for (int j = 0; j < kColTiles; j += 2) {
        uint32_t b[4];
        ldmatrix_x4(b, b_base + swizzled_offset(col0 + j * 8 + lane % 8 + lane / 16 * 8,
                                                vec + lane / 8 % 2));
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        for (int i = 0; i < 2; ++i) {
          Product::multiply(sum[i][j], a[i], left);
          Product::multiply(sum[i][j + 1], a[i], right);
        }
      }
    }
  }

  // sums += A^T * B with A [kTileK, kRows] and B [kTileK, kCols], as swizzle atoms of [kTileK, 128
  // bytes].
  static constexpr int kTileK = kProducerThreads / kRowVecs;
  __device__ void multiply_transposed(const char* atoms_a, const char* atoms_b, int thread) {
    const int lane = thread % 32, warp = thread / 32;
    const int row0 = warp / kNWarps * 32, col0 = warp % kNWarps * kWarpCols;
#pragma unroll
    for (int depth = 0; depth < kTileK; depth += 32 / int(sizeof(element))) {
      uint32_t a[2][4];
      for (int i = 0; i < 2; ++i) load_transposed<false>(a[i], atoms_a, depth, row0 + i * 16, lane);
#pragma unroll
      for (int j = 0; j < kColTiles; j += 2) {
        uint32_t b[4];
        load_transposed<true>(b, atoms_b, depth, col0 + j * 8, lane);
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        for (int i = 0; i < 2; ++i) {
          Product::multiply(sum[i][j], a[i], left);
          Product::multiply(sum[i][j + 1], a[i], right);
        }
      }
    }
  }

  // Loads fragments: four matrices of 8 lines by half a step's depth, from 16 lines that begin at
  // `line`. Those of the first 8 lines come first (kByLines), or those of the first half of the
  // depth.
  template <bool kByLines>
  static __device__ void load_transposed(uint32_t (&r)[4], const char* atoms, int depth, int line,
                                         int lane) {
    auto place = [&](int d, int l) {
      const int within = l % kRowElements<element>;
      return atoms + l / kRowElements<element> * (kTileK * kRowBytes) +
             swizzled_offset(d, within / kVecSize<element>) +
             within % kVecSize<element> * int(sizeof(element));
    };
    auto further = [](int piece) { return kByLines ? piece / 2 : piece % 2; };
    auto deeper = [](int piece) { return kByLines ? piece % 2 : piece / 2; };
    if constexpr (sizeof(element) == 2) {
      const int piece = lane / 8;
      ldmatrix_x4_trans(r, shared_address(place(depth + deeper(piece) * 8 + lane % 8,
                                                line + further(piece) * 8)));
    } else {
#pragma unroll
      for (int piece = 0; piece < 4; ++piece) {
        r[piece] = *reinterpret_cast<const uint32_t*>(
            place(depth + deeper(piece) * 4 + lane % 4, line + further(piece) * 8 + lane / 4));
      }
    }
  }

  // The accumulators of a thread: kThreadRows rows with kThreadPairs pairs of columns each. Pair j
  // begins at column(thread) + 8 * j. For columns in the order of column_place() they form
  // kThreadVecs vectors of 16 bytes, and vector j begins at vec_column(thread, j).
  static constexpr int kThreadRows = 4, kThreadPairs = kColTiles;
  static constexpr int kThreadVecs = kThreadPairs * 2 / kVecSize<element>;
  __device__ static int row(int thread, int i) {
    return thread / 32 / kNWarps * 32 + thread % 32 / 4 + i * 8;
  }
  __device__ static int column(int thread) {
    return thread / 32 % kNWarps * kWarpCols + thread % 4 * 2;
  }
  __device__ static int vec_column(int thread, int j) {
    return thread / 32 % kNWarps * kWarpCols + (j * 4 + thread % 4) * kVecSize<element>;
  }
  __device__ float2 pair(int i, int j) const {
    const float (&tile)[4] = sum[i / 2][j];
    return {tile[i % 2 * 2], tile[i % 2 * 2 + 1]};
  }
};

// ---- Tiles

// Calls f with the product of the element type.
template <class F>
void dispatch_product(const ConvArgs& a, F f) {
  switch (a.dtype) {
    case Dtype::kFloat16:
      return f(HalfProduct{});
    case Dtype::kBFloat16:
      return f(BFloat16Product{});
    default:
      return a.allow_tf32 ? f(Tf32Product{}) : f(Float32Product{});
  }
}
template <class Rows, class F>
void dispatch_gemm_tile(ByMmaSync, Rows, const ConvArgs& a, int cols, F f) {
  dispatch_product(a, [&](auto product) {
    using Product = decltype(product);
    cols == 64 ? f(Type<MmaSync<Product, 128, 64>>{}) : f(Type<MmaSync<Product, 128, 128>>{});
  });
}
template <class F>
void dispatch_grad_weight_tile(ByMmaSync by, const ConvArgs& a, int cols, F f) {
  dispatch_gemm_tile(by, Int<128>{}, a, cols, f);
}
template <class F>
void dispatch_column_tile(ByMmaSync, const ConvArgs& a, int, F f) {
  dispatch_product(a, [&](auto product) {
    using Product = decltype(product);
    f(Type<MmaSync<Product, 64, 2 * kRowElements<typename Product::element>>>{});
  });
}

}  // namespace dcnv2::cuda
