// SPDX-License-Identifier: BSD-3-Clause
// The sampling part of producer warps: the corners at a sample's address become a modulated sample
// in shared memory. Eight lanes share a row, so a corner of 64 halves (or 32 floats) is one 128-byte
// line.
#pragma once

#include "cuda/tensor_core/mma/operands.cuh"
#include "cuda/tensor_core/mma/pipeline.cuh"
#include "cuda/tensor_core/sample_address.cuh"

namespace dcnv2::cuda {

// Corner loads in flight: one 16-byte vector of kCount samples.
template <int kCount>
struct CornerLoads {
  uint4 value[kCount][4];
  float4 weight[kCount];

  // Of the rows row0, row0 + row_step, ...; address(row) returns where to load.
  template <class GetAddress>
  __device__ void load(int row0, int row_step, GetAddress address) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const SampleAddress r = address(row0 + i * row_step);
      value[i][0] = load_vec16(r.at);
      value[i][1] = load_vec16(r.at + r.right);
      value[i][2] = load_vec16(r.at + r.down);
      value[i][3] = load_vec16(r.at + r.down + r.right);
      weight[i] = r.weight;
    }
  }
  template <class M, int kSplitBytes>
  __device__ void store(uint32_t to, int step_bytes) const {
    using T = typename M::element;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      float v[kVecSize<T>] = {};
      fma_vec16(value[i][0], weight[i].x, v, T{});
      fma_vec16(value[i][1], weight[i].y, v, T{});
      fma_vec16(value[i][2], weight[i].z, v, T{});
      fma_vec16(value[i][3], weight[i].w, v, T{});
      if constexpr (M::kSwapAB) {
        store_transposed<M, kSplitBytes>(to + i * step_bytes, v);
      } else {
        store_operand<M, kSplitBytes>(to + i * step_bytes, v);
      }
    }
  }
};
template <>
struct CornerLoads<0> {
  template <class GetAddress>
  __device__ void load(int, int, GetAddress) {}
  template <class M, int kSplitBytes>
  __device__ void store(uint32_t, int) const {}
};

// Samples step by step: a thread's share of kItems rows. While the corners of some items are
// interpolated, the loads of others are in flight, across steps too. kSplitBytes: distance of an
// operand's splits in a stage; kCopies: the thread also issued cp.async into the stage.
template <class M, int kItems, int kItemBytes, int kSplitBytes, bool kCopies>
struct SampleProducer {
  static constexpr int kFirst = kItems / 2, kSecond = kItems - kFirst;

  // Initialised on purpose: ptxas 13.0 miscompiled the uninitialised registers.
  CornerLoads<kSecond> second{};  // in flight from one step to the next,
  uint32_t pending_smem = 0;  // stored here
  uint32_t pending = 0;  // barrier of that stage; 0: none

  // load(corners, item) issues the loads from that item on; acquire() waits for the stage and
  // issues copies into it. smem, full: addresses of the first item's destination and of the stage's
  // barrier.
  template <class Load, class Acquire>
  __device__ void step(Load load, Acquire acquire, uint32_t smem, uint32_t full) {
    CornerLoads<kFirst> first;
    CornerLoads<kSecond> next;
    load(first, 0);
    if (kFirst == 0) load(next, 0);
    commit_pending();
    acquire();
    if (kFirst > 0) {
      load(next, kFirst);
      first.template store<M, kSplitBytes>(smem, kItemBytes);
    }
    second = next;
    pending = full;
    pending_smem = smem + kFirst * kItemBytes;
  }
  __device__ void commit_pending() {
    if (pending == 0) return;
    second.template store<M, kSplitBytes>(pending_smem, kItemBytes);
    if constexpr (kCopies) cp_async_wait_all();
    arrive_filled<M>(pending);
    pending = 0;
  }
};

}  // namespace dcnv2::cuda
