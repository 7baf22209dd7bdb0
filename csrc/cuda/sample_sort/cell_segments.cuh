// SPDX-License-Identifier: BSD-3-Clause
// Cells that so many samples lie in that many threads have to share them. Sorted samples are cut into
// stretches, each of which has at most two parts of cells that reach beyond it: of the one that it begins
// with, and of one that starts later. A part is summed up by itself; its cell's sum is that of its parts,
// in order.
#pragma once

#include "cuda/sample_sort/sorted_samples.cuh"

namespace dcnv2::cuda {

inline int64_t max_segments(int64_t samples, int64_t segment_length) {
  return 2 * ceil_div(samples, segment_length);
}

// The part of a cell that has the sample `at`, and no sample of its segment_length before it.
__device__ __forceinline__ int64_t segment_index(uint32_t at, uint32_t segment_length) {
  return 2 * int64_t(at / segment_length) + (at % segment_length != 0);
}

// The sample behind which the next part of the same cell begins.
__device__ __forceinline__ uint32_t next_segment(uint32_t at, uint32_t segment_length) {
  return (at / segment_length + 1) * segment_length;
}

// The samples of a part. There are none unless its cell has more than a segment_length of them.
struct CellSegment {
  uint32_t begin = 0, end = 0;
  uint32_t member;  // one of them, if there are any: which cell it is

  // range(member) gives all samples of a member's cell, none for one that lies in no cell.
  template <class F>
  __device__ __forceinline__ CellSegment(int64_t segment, uint32_t segment_length, uint32_t samples, F range) {
    const int64_t low = segment / 2 * segment_length;
    if (low >= samples) return;
    const bool starts_later = segment % 2 == 1;
    const auto high = uint32_t(min(low + segment_length, int64_t(samples)));
    member = starts_later ? high - 1 : uint32_t(low);
    const SampleRange cell = range(member);
    if (cell.end - cell.begin <= segment_length || (starts_later && cell.begin <= low)) return;
    begin = max(cell.begin, uint32_t(low));
    end = min(cell.end, high);
  }
};

}  // namespace dcnv2::cuda
