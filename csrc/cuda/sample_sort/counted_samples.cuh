// SPDX-License-Identifier: BSD-3-Clause
// Samples in the order of their keys, and of their ids where keys are equal, by counting: samples
// count themselves, a scan of the counts gives every key its range, and each sample finds its place
// there by its rank among the ids of its key. The result is that of a stable sort, in fewer passes
// over the samples.
//
// Ranking takes the square of a key's samples, so keys with many are put in order beforehand, by a
// block each: a bitmap of the ids that are there is read from its first bit to its last.
#pragma once

#include "cuda/sample_sort/sorted_samples.cuh"

namespace dcnv2::cuda {

// Keys with more samples are dense. As a pixel is touched by the samples of four keys, no pixel
// has more than kOversized of them unless a key is dense.
constexpr uint32_t kDense = kOversized / 4;

constexpr uint32_t kNoKey = 0xffffffffu;  // of a sample in no cell

// The arrays of the counting in a workspace. Those from `scratch` on are free afterwards.
struct CountLayout {
  int64_t keys, samples;
  int64_t ids, keys_out, row_offsets, dense_keys, scratch, keys_in, arrived, scan, total;

  CountLayout(int64_t keys, int64_t samples);
};

struct CountedSamples {
  uint32_t* keys;  // [samples] by id
  uint32_t* arrived;  // [samples] ids, the keys in order, and within a key as its samples arrived
  // [samples] First by id: how many samples of its key arrived before it. Then, in the ranges of
  // dense keys, their ids in order.
  uint32_t* ids;
  uint32_t* dense;  // keys that are dense, in any order
  uint32_t* dense_keys;  // how many
  uint32_t* row_offsets;  // [keys + 1] the counts, and then where the range of a key begins

  CountedSamples(const CountLayout& layout, void* workspace);

  // Counts a sample. For every sample once, after clear_counts and before place_samples.
  __device__ __forceinline__ void count(uint32_t id, uint32_t key) const {
    keys[id] = key;
    if (key == kNoKey) return;
    const uint32_t before = atomicAdd(row_offsets + key, 1u);
    ids[id] = before;
    if (before == kDense) dense[atomicAdd(dense_keys, 1u)] = key;
  }

  // A sample that is in a cell, and its place in the order, after place_samples. place: any place
  // in front of row_offsets[keys]; each place has one sample.
  struct Ranked {
    uint32_t id, key, place;
  };
  __device__ __forceinline__ Ranked ranked(uint32_t place) const {
    Ranked r{arrived[place], 0, place};
    r.key = keys[r.id];
    const SampleRange range{row_offsets[r.key], row_offsets[r.key + 1]};
    if (range.end - range.begin > kDense) {
      r.id = ids[place];
      return r;
    }
    r.place = range.begin;
#pragma unroll 4
    for (uint32_t i = range.begin; i < range.end; ++i) r.place += __ldg(arrived + i) < r.id;
    return r;
  }
};

void clear_counts(const CountLayout& layout, void* workspace, cudaStream_t stream);
// id_range: the ids of a key are in one of the ranges [i * id_range, (i + 1) * id_range).
void place_samples(const CountLayout& layout, uint32_t id_range, void* workspace,
                   cudaStream_t stream);

}  // namespace dcnv2::cuda
