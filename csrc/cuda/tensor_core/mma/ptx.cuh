// SPDX-License-Identifier: BSD-3-Clause
// PTX instructions that CUDA C++ has no intrinsic for, one function each. On a chip without an
// instruction the function does nothing; path choice (dispatch/paths.cpp) keeps such kernels from
// being launched.
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

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Hides an address from the optimiser, which would otherwise recompute it for every use.
__device__ __forceinline__ uint32_t opaque_address(uint32_t at) {
  asm("" : "+r"(at));
  return at;
}

// 16 bytes of shared memory, by 32-bit address.
__device__ __forceinline__ uint4 load_shared(uint32_t at) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(at));
  return v;
}
__device__ __forceinline__ void store_shared(uint32_t at, const uint4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}

// The same of one word.
__device__ __forceinline__ uint32_t load_shared_word(uint32_t at) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at));
  return v;
}
__device__ __forceinline__ void store_shared_word(uint32_t at, uint32_t v) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(v) : "memory");
}

// An mbarrier: a phase ends when `count` threads have arrived and all expected bytes have come.
struct Barrier {
  uint64_t word;

  __device__ void init(int count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&word)), "r"(count));
  }
  __device__ void arrive() { arrive(shared_address(&word)); }
  __device__ void wait(uint32_t parity) { wait(shared_address(&word), parity); }

  // The same by the barrier's address.
  static __device__ __forceinline__ void arrive(uint32_t at) {
    asm volatile("{\n .reg .b64 state;\n mbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(at)
                 : "memory");
  }
  // Waits until the phase of this parity has completed.
  static __device__ __forceinline__ void wait(uint32_t at, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n .reg .pred done;\n"
        "retry:\n"
        " mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
        " @!done bra retry;\n}" ::"r"(at),
        "r"(parity)
        : "memory");
#else
    asm volatile(
        "{\n .reg .pred done;\n"
        "retry:\n"
        " mbarrier.test_wait.parity.shared.b64 done, [%0], %1;\n"
        " @!done bra retry;\n}" ::"r"(at),
        "r"(parity)
        : "memory");
#endif
  }
};

// Makes earlier stores to shared memory visible to wgmma, which reads through the async proxy.
// Issued by the consumer: in the producer it would also wait for outstanding loads.
__device__ __forceinline__ void fence_proxy_async() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Bulk copy of `bytes` contiguous bytes (both sides aligned to 16) into shared memory; `full`
// expects them. To be called by one whole warp; from sm_90 on.
__device__ __forceinline__ void bulk_copy_g2s(void* to, const void* from, int bytes,
                                              Barrier& full) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n .reg .pred one;\n elect.sync _|one, 0xffffffff;\n"
      " @one mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%3], %2;\n"
      " @one cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];\n}" ::"r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&full.word))
      : "memory");
#endif
}

// Named barrier `number` (0 is __syncthreads) for `threads` threads of the block.
__device__ __forceinline__ void named_barrier(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// Makes initialised mbarriers visible to the async proxy.
__device__ __forceinline__ void fence_barrier_init() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

// cp.async of 16 bytes past the L1 cache, or of 16 zero bytes.
__device__ __forceinline__ void cp_async_vec16(uint32_t to, const void* from, bool zeros = false) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(zeros ? 0 : 16)
               : "memory");
}
__device__ __forceinline__ void cp_async_wait_all() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}
// Arrives at the barrier once all cp.async that this thread issued are complete.
__device__ __forceinline__ void cp_async_mbarrier_arrive(Barrier& barrier) {
  asm volatile(
      "cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&barrier.word))
      : "memory");
}

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

// ldmatrix of four 8 x 8 matrices of halves; lane i passes the address of row i % 8 of matrix i /
// 8.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at));
}

// The same with every matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at));
}

#define DCNV2_MMA(SHAPE_AND_TYPES)                                                \
  asm volatile("mma.sync.aligned." SHAPE_AND_TYPES                                \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

// d[16, 8] += a[16, 16] * b[8, 16]^T, by one warp.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], __half) {
  DCNV2_MMA("m16n8k16.row.col.f32.f16.f16.f32");
}
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], __nv_bfloat16) {
  DCNV2_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}

// d[16, 8] += a[16, 8] * b[8, 8]^T, by one warp.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  DCNV2_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}
__device__ __forceinline__ uint32_t to_tf32(float v) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return r;
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
