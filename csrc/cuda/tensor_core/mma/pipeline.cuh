// SPDX-License-Identifier: BSD-3-Clause
// A ring of operand tiles between the warps that fill them and the warps that multiply them.
#pragma once

#include "cuda/tensor_core/mma/ptx.cuh"

namespace dcnv2::cuda {

// Named barriers; 0 is __syncthreads. In grad_offset_mask the epilogue warps use the first.
constexpr int kProducerBarrier = 1, kMathBarrier = 2;

// The stage that comes next and the parity that its barriers have by then.
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

// Whether a thread is in the first warp of those that count from 0: in a form that tells the compiler that
// whole warps agree, so that the others branch past what that warp does.
__device__ __forceinline__ bool in_first_warp(int thread) {
  return __shfl_sync(0xffffffffu, thread / 32, 0) == 0;
}

// Lanes that arrive at a barrier for their warp. racecheck of compute-sanitizer does not see that __syncwarp() orders
// what the others did before: what it judges is compiled to have each lane arrive for itself.
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

// Starts a copy by one warp, which must arrive at `full` after it: by the chip where M is for one that can, else by
// the warp's lanes.
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

// The same by a warp that alone fills the stage: the barrier counts so many arrivals.
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

// Arrives at a barrier for the warp, once what its lanes stored or copied is in place.
template <class M>
__device__ __forceinline__ void arrive_filled(uint32_t barrier) {
  if constexpr (!M::kBulkCopy) cp_async_wait_all();
  arrive_for_warp(barrier);
}

// Gives stages back to those who fill them, once a warp's product has read them: at once, or when the
// next one has begun where products are in flight.
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
  // Waits for the last product.
  __device__ void finish(M& product) {
    product.finish();
    if (last >= 0) arrive_empty(last);
    last = -1;
  }
  __device__ void arrive_empty(int stage) { arrive_for_warp(empty[stage]); }
};

// So often threads arrive at every full barrier, and at every empty one.
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
