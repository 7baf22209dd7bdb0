// SPDX-License-Identifier: BSD-3-Clause
// PTX instructions that CUDA C++ has no intrinsic for, one function each: shared memory, barriers,
// copies and ldmatrix; ptx_mma.cuh and ptx_wgmma.cuh have the products. On a chip without an
// instruction the function does nothing; path choice (dispatch/paths.cpp) keeps such kernels from
// being launched.
#pragma once

#include <cstdint>

namespace dcnv2::cuda {

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

// The nearest number of 11 significand bits.
__device__ __forceinline__ uint32_t to_tf32(float v) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return r;
}

}  // namespace dcnv2::cuda
