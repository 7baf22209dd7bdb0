// SPDX-License-Identifier: BSD-3-Clause
// The segments of oversized cells (split_cells.cuh) for the kernels that sum them.
#pragma once

#include "cuda/common/vec16.cuh"
#include "cuda/sample_sort/split_cells.cuh"

namespace dcnv2::cuda {

inline int64_t max_segments(int64_t samples, int64_t segment_length) {
  return 2 * ceil_div(samples, segment_length);
}

// The samples of a segment; none unless its cell has more than segment_length.
struct CellSegment {
  uint32_t begin = 0, end = 0;
  uint32_t member;  // a sample of the cell, if the segment has any

  // range(member) returns the samples of a member's cell, an empty range if it is in no cell.
  template <class F>
  __device__ __forceinline__ CellSegment(int64_t segment, uint32_t segment_length, uint32_t samples,
                                         F range) {
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

template <class T>
using CornerSums = float[4][kVecSize<T>];

// Adds a vector of channels to the sums of all four corners.
template <class T>
__device__ __forceinline__ void add_corners(const uint4& vec, const float4& weight,
                                            CornerSums<T>& sum) {
  fma_vec16(vec, weight.x, sum[0], T{});
  fma_vec16(vec, weight.y, sum[1], T{});
  fma_vec16(vec, weight.z, sum[2], T{});
  fma_vec16(vec, weight.w, sum[3], T{});
}

}  // namespace dcnv2::cuda
