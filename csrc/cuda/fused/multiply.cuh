// SPDX-License-Identifier: BSD-3-Clause
// The multiplying warps: sums += A * B^T over one stage, with A [kRows, slab] and B [kCols, slab] as
// slab.cuh lays them out. MmaSync runs from sm_80 on, Wgmma (wgmma.cuh) on sm_90a.
#pragma once

#include "slab.cuh"
#include "ring.cuh"

namespace dcnv2::cuda {

// Moves registers between the roles of a block; each warpgroup of a role calls it, where the chip can.
template <int kRegisters, bool kMore>
__device__ __forceinline__ void resize_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (kMore) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
  } else {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
  }
#endif
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at));
}

#define DCNV2_MMA(SHAPE_AND_TYPES)                                                              \
  asm volatile("mma.sync.aligned." SHAPE_AND_TYPES                                              \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"               \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                 \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

// How operands of a type are multiplied: d[16, 8] += a[16, 32 bytes] * b[8, 32 bytes]^T.
struct HalfProduct {
  using element = __half;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    DCNV2_MMA("m16n8k16.row.col.f32.f16.f16.f32");
  }
};
struct BFloat16Product {
  using element = __nv_bfloat16;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    DCNV2_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
  }
};

__device__ __forceinline__ void multiply_tf32(float (&d)[4], const uint32_t (&a)[4],
                                              const uint32_t (&b)[2]) {
  DCNV2_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}
__device__ __forceinline__ uint32_t to_tf32(float v) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return r;
}
// One product of operands rounded to 11 bits.
struct Tf32Product {
  using element = float;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t ra[4], rb[2];
    for (int i = 0; i < 4; ++i) ra[i] = to_tf32(__uint_as_float(a[i]));
    for (int i = 0; i < 2; ++i) rb[i] = to_tf32(__uint_as_float(b[i]));
    multiply_tf32(d, ra, rb);
  }
};
// Three products of operands split in two parts of 11 bits each: the accuracy of float32. The sum of
// the small products is kept apart until the large one is added, so that it is not lost.
struct Float32Product {
  using element = float;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t ah[4], al[4], bh[2], bl[2];
    for (int i = 0; i < 4; ++i) split(a[i], ah[i], al[i]);
    for (int i = 0; i < 2; ++i) split(b[i], bh[i], bl[i]);
    float part[4] = {};
    multiply_tf32(part, al, bh);
    multiply_tf32(part, ah, bl);
    multiply_tf32(part, ah, bh);
    for (int i = 0; i < 4; ++i) d[i] += part[i];
  }
  static __device__ void split(uint32_t v, uint32_t& high, uint32_t& low) {
    high = to_tf32(__uint_as_float(v));
    low = to_tf32(__uint_as_float(v) - __uint_as_float(high));
  }
};

// Warps of 32 rows each, and half as many columns as fit: kRows x kCols is 128 x 128, 128 x 64 or
// 64 x 256.
template <class Product, int kRows, int kCols>
struct MmaSync {
  using element = typename Product::element;
  static constexpr int kThreads = 256, kFillThreads = 256;
  static __device__ void take_registers() {}
  static __device__ void give_registers() {}
  static constexpr int kWarpsDown = kRows / 32, kWarpsAcross = 8 / kWarpsDown;
  static constexpr int kWarpCols = kCols / kWarpsAcross, kColTiles = kWarpCols / 8;
  static_assert(kWarpsDown * kWarpsAcross == 8 && kWarpCols % 16 == 0);

  float sum[2][kColTiles][4] = {};

  __device__ void clear() {
    for (auto& rows : sum) {
      for (auto& tile : rows) {
        for (float& v : tile) v = 0;
      }
    }
  }

  // The tiles may be overwritten once every multiplying thread has returned.
  __device__ void multiply(const char* tile_a, const char* tile_b, int thread) {
    const int lane = thread % 32, warp = thread / 32;
    const int row0 = warp / kWarpsAcross * 32, col0 = warp % kWarpsAcross * kWarpCols;
    const uint32_t a_base = shared_address(tile_a), b_base = shared_address(tile_b);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; chunk += 2) {
      uint32_t a[2][4];
      for (int i = 0; i < 2; ++i) {
        load_matrices(a[i], a_base + chunk_offset(row0 + i * 16 + lane % 16, chunk + lane / 16));
      }
#pragma unroll
      for (int j = 0; j < kColTiles; j += 2) {
        uint32_t b[4];
        load_matrices(b, b_base + chunk_offset(col0 + j * 8 + lane % 8 + lane / 16 * 8,
                                               chunk + lane / 8 % 2));
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        for (int i = 0; i < 2; ++i) {
          Product::multiply(sum[i][j], a[i], left);
          Product::multiply(sum[i][j + 1], a[i], right);
        }
      }
    }
  }

  // The sums that a thread has: of kThreadRows rows, in each kThreadPairs pairs of columns, of which
  // pair j begins at column(thread) + 8 * j.
  static constexpr int kThreadRows = 4, kThreadPairs = kColTiles;
  __device__ static int row(int thread, int i) {
    return thread / 32 / kWarpsAcross * 32 + thread % 32 / 4 + i * 8;
  }
  __device__ static int column(int thread) {
    return thread / 32 % kWarpsAcross * kWarpCols + thread % 4 * 2;
  }
  __device__ float2 pair(int i, int j) const {
    const float(&tile)[4] = sum[i / 2][j];
    return {tile[i % 2 * 2], tile[i % 2 * 2 + 1]};
  }
};

}  // namespace dcnv2::cuda
