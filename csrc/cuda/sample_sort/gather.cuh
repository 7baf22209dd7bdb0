// SPDX-License-Identifier: BSD-3-Clause
// result[pixel, c] = sum over the samples that touch the pixel of corner weight * rows[sample's row, c].
// The samples come sorted by cell, so that every pixel adds up its own in a fixed order, and nothing is
// scattered.
#pragma once

#include "cuda/sample_sort/sorted_samples.cuh"

namespace dcnv2::cuda {

// Samples sorted by cell, then list.
struct CellLists {
  CellGrid grid;
  uint32_t samples, list_samples;
  const uint32_t *keys, *ids;  // [samples]: cells (grid.cells(): none), and ids, which count within lists
  const uint32_t* row_offsets;       // [cells * lists + 1] into these

  CellLists(const SortLayout& layout, void* workspace);
  __device__ SampleRange range(int64_t cell, uint32_t list) const {
    const uint32_t* begin = row_offsets + cell * grid.lists + list;
    return {begin[0], begin[1]};
  }
};

// A row for every sample of a list, or for several, and all of it again for the next list.
struct SampleTable {
  const char* data;
  uint32_t row_bytes;
  int64_t list_bytes;
};

struct GatherArgs {
  CellLists lists;
  Dtype dtype;            // of rows and result; not float64
  int64_t first, images;  // the images of the lists that rows and weights are there of
  SampleTable rows;       // of the channels of a list, for every `row_samples` samples
  uint32_t row_samples;
  SampleTable weights;    // a float4, of the corners, for every sample
  void* result;           // [lists.grid.images, height, width, channels]
  int64_t channels;       // of all lists: each has its share, a multiple of a chunk
  float* partial;         // gather_workspace bytes
};

// Bytes for the sums of crowded cells.
size_t gather_workspace(const SortLayout& layout, int64_t channels);
void launch_gather(const GatherArgs& a, cudaStream_t stream);

}  // namespace dcnv2::cuda
