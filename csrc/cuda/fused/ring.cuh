// SPDX-License-Identifier: BSD-3-Clause
// A ring of operand tiles between the warps that fill them and the warps that multiply them.
#pragma once

#include "ptx.cuh"

namespace dcnv2::cuda {

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

// Whether a thread is in the first warp of those that count from 0: in a form that tells the compiler that
// whole warps agree, so that the others branch past what that warp does.
__device__ __forceinline__ bool in_first_warp(int thread) {
  return __shfl_sync(0xffffffffu, thread / 32, 0) == 0;
}

// Starts a copy by one warp, which must arrive at `full` after it; on every chip.
__device__ __forceinline__ void copy_tile(void* to, const void* from, int bytes, Barrier& full) {
  if constexpr (kBulkCopies) {
    start_copy(to, from, bytes, full);
  } else {
    for (int i = threadIdx.x % 32 * 16; i < bytes; i += 32 * 16) {
      copy_chunk(shared_address(to) + i, static_cast<const char*>(from) + i);
    }
  }
}

// The same by a warp that alone fills the stage: the barrier counts kCopyArrivals.
constexpr int kCopyArrivals = kBulkCopies ? 1 : 32;
__device__ __forceinline__ void copy_tile_alone(void* to, const void* from, int bytes,
                                                Barrier& full) {
  copy_tile(to, from, bytes, full);
  if constexpr (kBulkCopies) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) full.arrive();
  } else {
    arrive_after_copies(full);
  }
}

// Arrives at a barrier for the warp, once what its lanes stored or copied is in place.
__device__ __forceinline__ void arrive_warp(uint32_t barrier) {
  if constexpr (!kBulkCopies) wait_copies();
  __syncwarp();
  if (threadIdx.x % 32 == 0) Barrier::arrive(barrier);
}
__device__ __forceinline__ void arrive_warp(Barrier& barrier) { arrive_warp(shared_address(&barrier)); }

// Gives stages back to those who fill them, once a warp's product has read them: at once, or when the
// next one has begun where products are in flight.
template <class M, int kStages>
struct Release {
  Barrier (&empty)[kStages];
  int last = -1;

  __device__ void multiplied(int stage) {
    if constexpr (M::kInFlight) {
      if (last >= 0) give_back(last);
      last = stage;
    } else {
      give_back(stage);
    }
  }
  // Waits for the last product.
  __device__ void finish(M& product) {
    product.finish();
    if (last >= 0) give_back(last);
    last = -1;
  }
  __device__ void give_back(int stage) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) empty[stage].arrive();
  }
};

// So many warps arrive at every full barrier and at every empty one.
template <int kStages>
__device__ __forceinline__ void init_ring(Barrier (&full)[kStages], Barrier (&empty)[kStages],
                                          int filling, int multiplying) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      full[i].init(filling);
      empty[i].init(multiplying);
    }
    publish_barriers();
  }
  __syncthreads();
}

}  // namespace dcnv2::cuda
