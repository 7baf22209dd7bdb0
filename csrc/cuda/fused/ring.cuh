// SPDX-License-Identifier: BSD-3-Clause
// A ring of operand tiles between the warps that fill them and the warps that multiply them.
#pragma once

#include <cstdint>

namespace dcnv2::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// One barrier in shared memory: a phase ends when `count` threads have arrived (and the bytes that
// were announced have come).
struct Barrier {
  uint64_t word;

  __device__ void init(int count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&word)), "r"(count));
  }
  __device__ void arrive() {
    asm volatile("{\n .reg .b64 state;\n mbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(
                     shared_address(&word))
                 : "memory");
  }
  // Waits until the phase of this parity has ended.
  __device__ void wait(uint32_t parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n .reg .pred done;\n"
        "retry:\n"
        " mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
        " @!done bra retry;\n}" ::"r"(shared_address(&word)),
        "r"(parity)
        : "memory");
#else
    asm volatile(
        "{\n .reg .pred done;\n"
        "retry:\n"
        " mbarrier.test_wait.parity.shared.b64 done, [%0], %1;\n"
        " @!done bra retry;\n}" ::"r"(shared_address(&word)),
        "r"(parity)
        : "memory");
#endif
  }
};

// The stage that comes next and the parity that its barriers have by then.
template <int kStages>
struct RingPosition {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Makes this thread's stores to shared memory visible to wgmma, which reads by another proxy.
__device__ __forceinline__ void publish_stores() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Announces `bytes` contiguous bytes (both sides 16-byte aligned) at `full` and has them copied into
// shared memory. By one thread; from compute capability 9.0.
__device__ __forceinline__ void start_copy(void* to, const void* from, int bytes, Barrier& full) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(
                   shared_address(&full.word)),
               "r"(bytes)
               : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&full.word))
      : "memory");
#endif
}

// The same by a thread that alone fills this stage.
__device__ __forceinline__ void copy_tile_by_thread(void* to, const void* from, int bytes,
                                                    Barrier& full) {
  start_copy(to, from, bytes, full);
  full.arrive();
}

// The same by one warp, which must arrive at `full` after it; on every chip.
__device__ __forceinline__ void copy_tile(void* to, const void* from, int bytes, Barrier& full) {
  const int lane = threadIdx.x % 32;
#if __CUDA_ARCH__ >= 900
  if (lane == 0) start_copy(to, from, bytes, full);
#else
  for (int i = lane * 16; i < bytes; i += 32 * 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     shared_address(static_cast<char*>(to) + i)),
                 "l"(static_cast<const char*>(from) + i)
                 : "memory");
  }
#endif
}

// Arrives at a barrier for the warp, once what its lanes stored or copied is in place.
__device__ __forceinline__ void arrive_warp(Barrier& barrier) {
#if __CUDA_ARCH__ >= 900
  publish_stores();
#else
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier.arrive();
}

// A barrier among `threads` threads of the block, by number (0 is __syncthreads).
__device__ __forceinline__ void named_barrier(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// The block's shared memory, aligned as the permuted tiles need it.
constexpr int kSharedAlignment = 1024;
template <class Shared>
__device__ __forceinline__ Shared& align_shared(char* raw) {
  const uint32_t skip = -shared_address(raw) % kSharedAlignment;
  return *reinterpret_cast<Shared*>(raw + skip);
}

// So many warps arrive at every full barrier and at every empty one.
template <int kStages>
__device__ __forceinline__ void init_ring(Barrier (&full)[kStages], Barrier (&empty)[kStages],
                                          int filling, int multiplying) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      full[i].init(filling);
      empty[i].init(multiplying);
    }
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
  }
  __syncthreads();
}

}  // namespace dcnv2::cuda
