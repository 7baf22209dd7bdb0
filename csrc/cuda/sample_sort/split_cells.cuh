// SPDX-License-Identifier: BSD-3-Clause
// What the samples of crowded cells add of grad_output to the pixels around them, summed up by the whole
// GPU before the blocks that have those pixels need it.
#pragma once

#include "cuda/sample_sort/cell_segments.cuh"
#include "cuda/sample_sort/sample_lists.cuh"

namespace dcnv2::cuda {

struct OversizedCells {
  uint32_t segment_length;
  int64_t channels;     // of grad_output
  const float* partial;  // [parts, 4 corners, channels]

  OversizedCells(const SampleLists<float>& lists, int64_t channels);
};

// grad_output: of the images of the lists; its channels are a multiple of a chunk. Leaves the sums in the
// lists' spare memory.
OversizedCells sum_oversized_cells(const SampleLists<float>& lists, Dtype dtype, const char* grad_output,
                  int64_t channels, cudaStream_t stream);

}  // namespace dcnv2::cuda
