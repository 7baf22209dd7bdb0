// SPDX-License-Identifier: BSD-3-Clause
// An entry of a pixel is a sample that touches it: the pixel's gradient adds the sample's row of
// grad_output, weighted. Eight threads sum up the entries of a pixel, each one vector of channels.
// They hold the addresses and weights of eight entries at a time, one each, and shuffle them.
#pragma once

#include "cuda/common/vec16.cuh"
#include "cuda/sample_sort/sample_lists.cuh"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

constexpr uint32_t kAllLanes = 0xffffffffu;

struct Entry {
  uint32_t at;  // first vector of the row of grad_output
  float weight;
};

// Finds the entries of a pixel in the sample lists. Keys of lists fit 32 bits.
struct EntryFinder {
  static constexpr uint32_t kNoKey = 0xffffffffu;

  const SampleLists<float>& lists;
  const uint32_t row_vecs;              // of grad_output, for each pixel
  const uint32_t line_keys, list_keys;  // keys of a line of cells, and of a list

  __device__ EntryFinder(const SampleLists<float>& lists, uint32_t row_vecs)
      : lists(lists),
        row_vecs(row_vecs),
        line_keys(uint32_t(lists.grid.width + 1)),
        list_keys(uint32_t(lists.grid.cells())) {}

  __device__ uint32_t key(int list, int n, int y, int x) const {
    return uint32_t(lists.key(list, n, y, x, 1));
  }
  // Of the pixel with that key in the first list, in the list `tap` behind it.
  __device__ Entries entries(uint32_t key, int tap) const {
    if (key == kNoKey) return {};
    return Entries(lists.row_offsets, key + tap * list_keys, line_keys);
  }
  __device__ Entry entry(const Entries& entries, uint32_t index) const {
    if (index >= entries.count()) return {0, 0};
    const Entries::Position position = entries.position(index);
    return {lists.row[position.index] * row_vecs,
            lists.weights[int64_t(position.index) * 4 + position.corner]};
  }
};

// Sums of one vector of channels over a pixel's entries.
template <class T>
struct EntrySum {
  using Sum = float[kVecSize<T>];
  static constexpr uint32_t kShared = kRowVecs;  // entries that a pixel's threads hold at a time
  static constexpr uint32_t kMore = 2;           // loads in flight behind the first ones

  static __device__ uint4 load(const char* base, uint32_t at) {
    return load_vec16(base + uint64_t(at) * kVec16Bytes);
  }

  // Loads the vectors of kCount of the entries that the pixel's threads hold, from `begin` on; only
  // the first `count` exist. Every thread of a warp takes part.
  template <uint32_t kCount>
  static __device__ __forceinline__ void prefetch(const Entry& mine, uint32_t begin, uint32_t count,
                                                  const char* base, uint4 (&vec)[kCount]) {
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) {
      const uint32_t at = __shfl_sync(kAllLanes, mine.at, begin + i, kRowVecs);
      vec[i] = {};
      if (begin + i < count) vec[i] = load(base, at);
    }
  }
  template <uint32_t kCount>
  static __device__ __forceinline__ void add(const Entry& mine, uint32_t begin,
                                             const uint4 (&vec)[kCount], Sum& sum) {
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) {
      fma_vec16(vec[i], __shfl_sync(kAllLanes, mine.weight, begin + i, kRowVecs), sum, T{});
    }
  }
  // Adds those from `begin` on. `most`: entries of the fullest pixel of the warp.
  static __device__ __forceinline__ void add_rest(const Entry& mine, uint32_t begin, uint32_t count,
                                                  uint32_t most, const char* base, Sum& sum) {
    for (; begin < min(most, kShared); begin += kMore) {
      uint4 vec[kMore];
      prefetch<kMore>(mine, begin, count, base, vec);
      add<kMore>(mine, begin, vec, sum);
    }
  }
};

// The largest of a number that each pixel of a warp has.
__device__ inline uint32_t most_of_warp(uint32_t v) {
  for (int step = kRowVecs; step < 32; step *= 2) {
    v = max(v, __shfl_xor_sync(kAllLanes, v, step));
  }
  return v;
}

}  // namespace dcnv2::cuda
