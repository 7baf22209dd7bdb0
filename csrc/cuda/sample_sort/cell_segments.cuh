// SPDX-License-Identifier: BSD-3-Clause
// Cells that so many samples lie in that many threads have to share them. Sorted samples are cut into
// stretches, each of which has at most two parts of cells that reach beyond it: of the one that it begins
// with, and of one that starts later. A part is summed up by itself; its cell's sum is that of its parts,
// in order.
#pragma once

#include "cuda/sample_sort/sorted_samples.cuh"

namespace dcnv2::cuda {

inline int64_t most_crowd_parts(int64_t samples, int64_t stretch) {
  return 2 * ceil_div(samples, stretch);
}

// The part of a cell that has the sample `at`, and no sample of its stretch before it.
__device__ __forceinline__ int64_t crowd_part(uint32_t at, uint32_t stretch) {
  return 2 * int64_t(at / stretch) + (at % stretch != 0);
}

// The sample behind which the next part of the same cell begins.
__device__ __forceinline__ uint32_t next_crowd_part(uint32_t at, uint32_t stretch) {
  return (at / stretch + 1) * stretch;
}

// The samples of a part. There are none unless its cell has more than a stretch of them.
struct CrowdPart {
  uint32_t begin = 0, end = 0;
  uint32_t member;  // one of them, if there are any: which cell it is

  // range(member) gives all samples of a member's cell, none for one that lies in no cell.
  template <class F>
  __device__ __forceinline__ CrowdPart(int64_t part, uint32_t stretch, uint32_t samples, F range) {
    const int64_t low = part / 2 * stretch;
    if (low >= samples) return;
    const bool starts_later = part % 2 == 1;
    const auto high = uint32_t(min(low + stretch, int64_t(samples)));
    member = starts_later ? high - 1 : uint32_t(low);
    const SampleRange cell = range(member);
    if (cell.end - cell.begin <= stretch || (starts_later && cell.begin <= low)) return;
    begin = max(cell.begin, uint32_t(low));
    end = min(cell.end, high);
  }
};

}  // namespace dcnv2::cuda
