// SPDX-License-Identifier: BSD-3-Clause
// Hopper's warpgroup product, for halves: m64n128k16 and m64n64k16 with both operands in shared
// memory. Compiles to nothing useful below sm_90a; the host never launches it there.
#pragma once

#include "multiply.cuh"

namespace dcnv2::cuda {

// Which axis is contiguous in an operand's tile.
enum class Major { kDepth = 0, kRowsOrCols = 1 };

// Descriptor of a tile of 128-byte rows, permuted as slab.cuh says. `atom_bytes`: from one group of
// 64 elements to the next along the contiguous axis, where an operand has several (Major::kRowsOrCols).
__device__ __forceinline__ uint64_t tile_descriptor(uint32_t at, uint32_t atom_bytes) {
  constexpr uint64_t kGroupBytes = 8 * kRowBytes, kSwizzle128 = 1;
  return uint64_t((at & 0x3ffff) >> 4) | uint64_t(atom_bytes >> 4) << 16 |
         (kGroupBytes >> 4) << 32 | kSwizzle128 << 62;
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

#define DCNV2_R8(d, i)                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define DCNV2_R32(d, i) DCNV2_R8(d, i), DCNV2_R8(d, i + 8), DCNV2_R8(d, i + 16), DCNV2_R8(d, i + 24)
#define DCNV2_N32                                                                             \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DCNV2_N64                                                                                  \
  DCNV2_N32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "   \
            "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define DCNV2_WGMMA(TYPE, COLS, LIST, A, B, MAJOR_A, MAJOR_B, ...)                          \
  asm volatile("{\n .reg .pred add;\n setp.ne.b32 add, 1, 0;\n"                              \
               " wgmma.mma_async.sync.aligned.m64n" COLS "k16.f32." TYPE "." TYPE " {" LIST "}, " \
               A ", " B ", add, 1, 1, " MAJOR_A ", " MAJOR_B ";\n}"                           \
               : __VA_ARGS__                                                                \
               : "l"(a), "l"(b), "n"(int(kA)), "n"(int(kB)))

// d[64, cols] += a[64, 16] * b[16, cols] by one warpgroup, cols twice the length of d's array.
template <class T, Major kA, Major kB>
__device__ __forceinline__ void wgmma(float (&d)[64], uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (std::is_same_v<T, __half>) {
    DCNV2_WGMMA("f16", "128", DCNV2_N64, "%64", "%65", "%66", "%67", DCNV2_R32(d, 0),
                DCNV2_R32(d, 32));
  } else {
    DCNV2_WGMMA("bf16", "128", DCNV2_N64, "%64", "%65", "%66", "%67", DCNV2_R32(d, 0),
                DCNV2_R32(d, 32));
  }
#endif
}
template <class T, Major kA, Major kB>
__device__ __forceinline__ void wgmma(float (&d)[32], uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (std::is_same_v<T, __half>) {
    DCNV2_WGMMA("f16", "64", DCNV2_N32, "%32", "%33", "%34", "%35", DCNV2_R32(d, 0));
  } else {
    DCNV2_WGMMA("bf16", "64", DCNV2_N32, "%32", "%33", "%34", "%35", DCNV2_R32(d, 0));
  }
#endif
}

// The multiplying warps on Hopper: one warpgroup, with as many parts of 64 rows (kRows 128) or 128
// columns (kCols 256) as the tile has. The block's other warps give it registers.
template <class T, int kRows, int kCols>
struct Wgmma {
  using element = T;
  static constexpr int kThreads = 128, kFillThreads = 512;
  static constexpr int kDown = kRows / 64, kAcross = kCols > 128 ? kCols / 128 : 1;
  static constexpr int kPartCols = kCols / kAcross;
  // What the filling threads give, from the 96 that all begin with, must cover what these take, or
  // the block waits for ever.
  static constexpr int kRegisters = 160, kFillRegisters = 80, kBegin = 96;
  static_assert(kThreads * (kRegisters - kBegin) <= kFillThreads * (kBegin - kFillRegisters));
  static __device__ void take_registers() { resize_registers<kRegisters, true>(); }
  static __device__ void give_registers() { resize_registers<kFillRegisters, false>(); }

  float sum[kDown][kAcross][kPartCols / 2] = {};

  __device__ void clear() {
    for (auto& down : sum) {
      for (auto& part : down) {
        for (float& v : part) v = 0;
      }
    }
  }

  __device__ void multiply(const char* tile_a, const char* tile_b, int) {
    const uint32_t a = shared_address(tile_a), b = shared_address(tile_b);
    wgmma_fence();
#pragma unroll
    for (int byte = 0; byte < kRowBytes; byte += 32) {
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) {
          wgmma<T, Major::kDepth, Major::kDepth>(
              sum[i][j], tile_descriptor(a + i * 64 * kRowBytes + byte, 0),
              tile_descriptor(b + j * kPartCols * kRowBytes + byte, 0));
        }
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
  }

  // The same for operands that lie the other way: sums += A^T * B with A [64, kRows] and B [64, kCols]
  // in slabs of [64, 64 halves].
  __device__ void multiply_transposed(const char* slabs_a, const char* slabs_b) {
    constexpr int kSlabBytes = 64 * kRowBytes, kStepBytes = 16 * kRowBytes;
    const uint32_t a = shared_address(slabs_a), b = shared_address(slabs_b);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step) {
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) {
          wgmma<T, Major::kRowsOrCols, Major::kRowsOrCols>(
              sum[i][j], tile_descriptor(a + i * kSlabBytes + step * kStepBytes, kSlabBytes),
              tile_descriptor(b + j * (kPartCols / 64) * kSlabBytes + step * kStepBytes,
                              kSlabBytes));
        }
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
  }

  static constexpr int kThreadRows = 2 * kDown, kThreadPairs = kCols / 8;
  __device__ static int row(int thread, int i) {
    return i / 2 * 64 + thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8;
  }
  __device__ static int column(int thread) { return thread % 4 * 2; }
  __device__ float2 pair(int i, int j) const {
    const float(&part)[kPartCols / 2] = sum[i / 2][j / (kPartCols / 8)];
    const int at = j % (kPartCols / 8) * 4 + i % 2 * 2;
    return {part[at], part[at + 1]};
  }
};

}  // namespace dcnv2::cuda
