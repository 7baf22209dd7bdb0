// SPDX-License-Identifier: BSD-3-Clause
// The pipeline between producer and math warps: full and empty mbarriers around the stages of
// operand tiles.
#pragma once

#include "cuda/tensor_core/mma/ptx.cuh"

namespace dcnv2::cuda {

// Named barriers; 0 is __syncthreads. In grad_offset_mask the epilogue warps use the first.
constexpr int kProducerBarrier = 1, kMathBarrier = 2;

// The next stage and the phase parity of its barriers.
template <int kStages>
struct PipelineState {
  int stage = 0;
  uint32_t phase = 0;

  __device__ void advance(int stages = kStages) {
    if (++stage == stages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

// Whether a thread is in the first warp of those counted from 0. The shuffle tells the compiler
// that the answer is uniform over a warp, so the other warps branch past that warp's work.
__device__ __forceinline__ bool in_first_warp(int thread) {
  return __shfl_sync(0xffffffffu, thread / 32, 0) == 0;
}

// Lanes that arrive at an mbarrier for their warp. racecheck of compute-sanitizer does not see that
// __syncwarp() orders what the other lanes did before, so the build that it checks has every lane
// arrive.
#ifdef DCNV2_EVERY_LANE_ARRIVES
constexpr int kArrivals = 32;
#else
constexpr int kArrivals = 1;
#endif
__device__ __forceinline__ void arrive_for_warp(uint32_t barrier) {
  __syncwarp();
  if (threadIdx.x % 32 < kArrivals) Barrier::arrive(barrier);
}
__device__ __forceinline__ void arrive_for_warp(Barrier& barrier) {
  arrive_for_warp(shared_address(&barrier));
}

// Starts a copy into shared memory by one warp, which must then arrive at `full`: one bulk copy
// where M's chip has them, else cp.async by all lanes.
template <class M>
__device__ __forceinline__ void copy_tile(void* to, const void* from, int bytes, Barrier& full) {
  if constexpr (M::kBulkCopy) {
    bulk_copy_g2s(to, from, bytes, full);
  } else {
    for (int i = threadIdx.x % 32 * 16; i < bytes; i += 32 * 16) {
      cp_async_vec16(shared_address(to) + i, static_cast<const char*>(from) + i);
    }
  }
}

// The same for a warp that fills the stage by itself; `full` counts kCopyArrivals arrivals.
template <class M>
constexpr int kCopyArrivals = M::kBulkCopy ? kArrivals : 32;
template <class M>
__device__ __forceinline__ void copy_tile_alone(void* to, const void* from, int bytes,
                                                Barrier& full) {
  copy_tile<M>(to, from, bytes, full);
  if constexpr (M::kBulkCopy) {
    arrive_for_warp(full);
  } else {
    cp_async_mbarrier_arrive(full);
  }
}

// Arrives at a barrier for the warp, after its lanes' stores and copies are complete.
template <class M>
__device__ __forceinline__ void arrive_filled(uint32_t barrier) {
  if constexpr (!M::kBulkCopy) cp_async_wait_all();
  arrive_for_warp(barrier);
}

// Releases stages to the producers once a warp's product has read them: at once, or, where wgmma
// runs asynchronously, when the next product has been issued.
template <class M, int kStages>
struct ConsumerRelease {
  Barrier (&empty)[kStages];
  int last = -1;

  __device__ void mma_issued(int stage) {
    if constexpr (M::kAsync) {
      if (last >= 0) arrive_empty(last);
      last = stage;
    } else {
      arrive_empty(stage);
    }
  }
  // Waits for the last product and releases its stage.
  __device__ void finish(M& product) {
    product.finish();
    if (last >= 0) arrive_empty(last);
    last = -1;
  }
  __device__ void arrive_empty(int stage) { arrive_for_warp(empty[stage]); }
};

// The two roles of a block's warps, each with the registers that it needs: the first
// M::kMathThreads threads run math(), the others producers(thread), counted from 0.
template <class M, class Math, class Producers>
__device__ __forceinline__ void run_warp_roles(Math math, Producers producers) {
  if (threadIdx.x < M::kMathThreads) {
    M::warpgroup_reg_alloc();
    math();
  } else {
    M::warpgroup_reg_dealloc();
    producers(threadIdx.x - M::kMathThreads);
  }
}

// Arrivals per phase: at each full barrier `filling`, at each empty one `multiplying`.
template <int kStages>
__device__ __forceinline__ void init_pipeline(Barrier (&full)[kStages], Barrier (&empty)[kStages],
                                              int filling, int multiplying) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      full[i].init(filling);
      empty[i].init(multiplying);
    }
    fence_barrier_init();
  }
  __syncthreads();
}

}  // namespace dcnv2::cuda
