// SPDX-License-Identifier: BSD-3-Clause
// Hopper's warpgroup instructions: wgmma, its operands and fences, and setmaxnreg.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace dcnv2::cuda {

// Whether the target has wgmma. Kernels that need it are empty for other targets, which keeps them
// quick to compile.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWgmma = false;
#else
constexpr bool kHasWgmma = true;
#endif

// setmaxnreg: moves registers between the warpgroups of a block. Every warp of a warpgroup calls
// it.
template <int kRegisters>
__device__ __forceinline__ void warpgroup_reg_alloc() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}
template <int kRegisters>
__device__ __forceinline__ void warpgroup_reg_dealloc() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

// Which axis of an operand's tile is contiguous: the depth (K), or rows or columns (MN).
enum class Major { kK = 0, kMN = 1 };

// wgmma matrix descriptor of a tile of 128-byte rows in the 128-byte swizzle. atom_bytes: distance
// of swizzle atoms along the contiguous axis, for operands with several (Major::kMN).
__device__ __forceinline__ uint64_t tile_descriptor(uint32_t at, uint32_t atom_bytes) {
  constexpr uint64_t kGroupBytes = 8 * 128, kSwizzle128 = 1;
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

// Keeps uses of the accumulators after the wait for the product.
template <int kCount>
__device__ __forceinline__ void warpgroup_fence_operand(float (&d)[kCount]) {
#pragma unroll
  for (float& v : d) asm volatile("" : "+f"(v)::"memory");
}

#define DCNV2_R8(d, i)                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define DCNV2_R32(d, i) DCNV2_R8(d, i), DCNV2_R8(d, i + 8), DCNV2_R8(d, i + 16), DCNV2_R8(d, i + 24)
#define DCNV2_N32                                                                              \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DCNV2_N64                                                                      \
  DCNV2_N32                                                                            \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define DCNV2_WGMMA(TYPE, COLS, LIST, A, B, MAJOR_A, MAJOR_B, ...)                                \
  asm volatile(                                                                                   \
      "{\n .reg .pred add;\n setp.ne.b32 add, 1, 0;\n"                                            \
      " wgmma.mma_async.sync.aligned.m64n" COLS "k16.f32." TYPE "." TYPE " {" LIST "}, " A ", " B \
      ", add, 1, 1, " MAJOR_A ", " MAJOR_B ";\n}"                                                 \
      : __VA_ARGS__                                                                               \
      : "l"(a), "l"(b), "n"(int(kA)), "n"(int(kB)))

#define DCNV2_WGMMA_TF32(COLS, LIST, A, B, ...)                                          \
  asm volatile(                                                                          \
      "{\n .reg .pred add;\n setp.ne.b32 add, 1, 0;\n"                                   \
      " wgmma.mma_async.sync.aligned.m64n" COLS "k8.f32.tf32.tf32 {" LIST "}, " A ", " B \
      ", add, 1, 1;\n}"                                                                  \
      : __VA_ARGS__                                                                      \
      : "l"(a), "l"(b))

#define DCNV2_WGMMA_RS(COLS, LIST, A0, A1, A2, A3, B, ...)                                  \
  asm volatile(                                                                             \
      "{\n .reg .pred add;\n setp.ne.b32 add, 1, 0;\n"                                      \
      " wgmma.mma_async.sync.aligned.m64n" COLS "k8.f32.tf32.tf32 {" LIST "}, {" A0 ", " A1 \
      ", " A2 ", " A3 "}, " B ", add, 1, 1;\n}"                                             \
      : __VA_ARGS__                                                                         \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// d[64, cols] += a[64, 32 bytes] * b[32 bytes, cols] by one warpgroup, where d holds cols / 2
// values per thread. Of a float it reads the upper 19 bits, and floats must be K-major.
template <class T, Major kA, Major kB>
__device__ __forceinline__ void wgmma(float (&d)[64], uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (std::is_same_v<T, float>) {
    DCNV2_WGMMA_TF32("128", DCNV2_N64, "%64", "%65", DCNV2_R32(d, 0), DCNV2_R32(d, 32));
  } else if constexpr (std::is_same_v<T, __half>) {
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
  if constexpr (std::is_same_v<T, float>) {
    DCNV2_WGMMA_TF32("64", DCNV2_N32, "%32", "%33", DCNV2_R32(d, 0));
  } else if constexpr (std::is_same_v<T, __half>) {
    DCNV2_WGMMA("f16", "64", DCNV2_N32, "%32", "%33", "%34", "%35", DCNV2_R32(d, 0));
  } else {
    DCNV2_WGMMA("bf16", "64", DCNV2_N32, "%32", "%33", "%34", "%35", DCNV2_R32(d, 0));
  }
#endif
}

// The same for floats with A in registers (RS): rows lane / 4 and 8 further, at depth lane % 4 and
// 4 further.
__device__ __forceinline__ void wgmma_rs(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  DCNV2_WGMMA_RS("128", DCNV2_N64, "%64", "%65", "%66", "%67", "%68", DCNV2_R32(d, 0),
                 DCNV2_R32(d, 32));
#endif
}
__device__ __forceinline__ void wgmma_rs(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  DCNV2_WGMMA_RS("64", DCNV2_N32, "%32", "%33", "%34", "%35", "%36", DCNV2_R32(d, 0));
#endif
}

}  // namespace dcnv2::cuda
