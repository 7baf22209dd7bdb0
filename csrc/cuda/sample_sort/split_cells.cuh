// SPDX-License-Identifier: BSD-3-Clause
// Cells with too many samples for one thread. The sorted samples are cut every `segment_length`
// samples into intervals. An interval has at most two segments of cells that reach beyond it: one
// of the cell that it begins with, and one of a cell that starts later. Each segment is summed by
// itself, and the sums of a cell's segments are added in order, so the result is deterministic.
#pragma once

#include "cuda/sample_sort/sample_lists.cuh"

namespace dcnv2::cuda {

// ---- Segments

// The segment that sample `at` begins: the first of its cell, or the first of its interval.
__device__ __forceinline__ int64_t segment_index(uint32_t at, uint32_t segment_length) {
  return 2 * int64_t(at / segment_length) + (at % segment_length != 0);
}

// The sample that begins the next segment of the same cell.
__device__ __forceinline__ uint32_t next_segment(uint32_t at, uint32_t segment_length) {
  return (at / segment_length + 1) * segment_length;
}

// ---- Sums

// Weighted sums of grad_output over the segments of oversized cells, computed by the whole GPU
// before the thread blocks that own the pixels around those cells need them.
struct OversizedCells {
  uint32_t segment_length;
  int64_t channels;      // of grad_output
  const float* partial;  // [segments, 4 corners, channels]

  OversizedCells(const SampleLists<float>& lists, int64_t channels);

  // Adds the segments number `first`, first + step, ... of a cell at one of its corners.
  template <int kCount>
  __device__ void add(SampleRange cell, int corner, int64_t channel, uint32_t first, uint32_t step,
                      float (&sum)[kCount]) const {
    for (uint32_t i = cell.begin / segment_length + first; int64_t(i) * segment_length < cell.end;
         i += step) {
      const int64_t segment = segment_index(max(cell.begin, i * segment_length), segment_length);
      const float* from = partial + (segment * 4 + corner) * channels + channel;
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum[k] += from[k];
    }
  }
};

// grad_output: of the lists' images; its channels are a multiple of a vector. Writes the sums to
// the spare memory of the lists.
OversizedCells sum_oversized_cells(const SampleLists<float>& lists, Dtype dtype,
                                   const char* grad_output, int64_t channels, cudaStream_t stream);

}  // namespace dcnv2::cuda
