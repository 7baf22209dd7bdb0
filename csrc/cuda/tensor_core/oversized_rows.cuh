// SPDX-License-Identifier: BSD-3-Clause
// Rows of a tile, each a pixel, with too many entries for the eight threads of a row. All producer
// threads sum them up, one row after the other, with the help of the sums of oversized cells.
#pragma once

#include "cuda/sample_sort/split_cells.cuh"
#include "cuda/tensor_core/pixel_entries.cuh"
#include "cuda/tensor_core/tiles.cuh"

namespace dcnv2::cuda {

// A thread's vector of channels of a K tile: its address in the first pixel of grad_output, and
// whether the channels exist.
struct ChannelSlice {
  const char* base;
  bool valid;
};

template <class M>
struct OversizedRows {
  using T = typename M::element;
  using Sum = float[kVecSize<T>];
  static constexpr int kGroups = M::kProducerThreads / kRowVecs;  // of threads that share a row
  static constexpr int kItems = M::kTileRows / kGroups;           // rows of a group

  struct Smem {
    float partial[kGroups][kRowElements<T>];  // sums of a row, by the group that computed them
    bool oversized[M::kTileRows];
  };

  const EntryFinder& finder;
  const OversizedCells& cells;
  const char* grad_output;
  Smem& shared;
  const int group, lane;

  // Marks the oversized rows of a step and takes their entries away from the group that owns them.
  __device__ void mark(uint32_t (&count)[kItems]) const {
    named_barrier(kProducerBarrier, M::kProducerThreads);  // nobody reads the old marks
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const bool oversized = count[i] > kOversized;
      if (lane == 0) shared.oversized[group + i * kGroups] = oversized;
      if (oversized) count[i] = 0;
    }
    named_barrier(kProducerBarrier, M::kProducerThreads);
  }

  // Adds this group's share of a cell's samples to the pixel that is the cell's corner `corner`.
  __device__ void add_cell(SampleRange cell, int corner, const ChannelSlice& slice,
                           Sum& sum) const {
    if (cell.end - cell.begin <= cells.segment_length) {
#pragma unroll 4
      for (uint32_t i = cell.begin + group; i < cell.end; i += kGroups) {
        const float weight = finder.lists.weights[int64_t(i) * 4 + corner];
        const uint32_t at = finder.lists.row[i] * finder.row_vecs;
        fma_vec16(EntrySum<T>::load(slice.base, at), weight, sum, T{});
      }
      return;
    }
    const int64_t channel = (slice.base - grad_output) / int(sizeof(T));
    cells.add(cell, corner, channel, group, kGroups, sum);
  }

  // Sums up each oversized row in a fixed order. entries_of(row) returns its entries, and
  // store(row, sum) takes the result.
  template <class EntriesOf, class Store>
  __device__ __forceinline__ void add(const ChannelSlice& slice, EntriesOf entries_of,
                                      Store store) const {
    for (int row = 0; row < M::kTileRows; ++row) {
      if (!shared.oversized[row]) continue;
      const Entries all = entries_of(row);
      Sum sum = {};
      if (slice.valid) {
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) add_cell(all.cell(corner), corner, slice, sum);
      }
#pragma unroll
      for (int i = 0; i < kVecSize<T>; ++i) {
        shared.partial[group][lane * kVecSize<T> + i] = sum[i];
      }
      named_barrier(kProducerBarrier, M::kProducerThreads);
      if (group == row % kGroups) {
        Sum total = {};
        for (int other = 0; other < kGroups; ++other) {
          const float* from = shared.partial[other] + lane * kVecSize<T>;
#pragma unroll
          for (int i = 0; i < kVecSize<T>; ++i) total[i] += from[i];
        }
        store(row, total);
      }
      named_barrier(kProducerBarrier, M::kProducerThreads);
    }
  }
};

}  // namespace dcnv2::cuda
