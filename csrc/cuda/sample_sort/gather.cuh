// SPDX-License-Identifier: BSD-3-Clause
// result[pixel, c] = sum of corner weight * rows[sample's row, c] over the samples that touch the
// pixel. The samples are sorted by cell, so every pixel gathers its own in a fixed order and
// nothing is scattered.
#pragma once

#include "cuda/sample_sort/sorted_samples.cuh"

namespace dcnv2::cuda {

// Samples sorted by cell, then list, and the grid whose cells are gathered.
struct CellLists {
  CellGrid grid;
  uint32_t first_cell;  // of the grid among all cells of the sort
  uint32_t samples, list_samples;  // of all cells
  // [samples] cells counted from the sort's first, and ids, which count within a list
  const uint32_t *keys, *ids;
  const uint32_t* row_offsets;  // [grid.cells() * lists + 1] into these

  CellLists(const SortLayout& layout, const CellGrid& grid, int64_t first_cell, void* workspace);
  __device__ SampleRange range(int64_t cell, uint32_t list) const {
    const uint32_t* begin = row_offsets + cell * grid.lists + list;
    return {begin[0], begin[1]};
  }
};

// One row for each sample of a list, or for several samples; then the rows of the next list.
struct SampleTable {
  const char* data;
  uint32_t row_bytes;
  int64_t list_bytes;
};

struct GatherArgs {
  CellLists lists;
  Dtype dtype;  // of rows and result; not float64
  int64_t first, images;  // images of the lists for which rows and weights exist
  SampleTable rows;  // the channels of a list; one row for `row_samples` samples
  uint32_t row_samples;
  SampleTable weights;  // for each sample a float4, one weight for each corner
  void* result;  // [lists.grid.images, height, width, channels]
  int64_t channels;  // of all lists; the share of each is a multiple of a vector
  float* partial;  // gather_workspace bytes
};

// Bytes for the sums of oversized cells.
size_t gather_workspace(const SortLayout& layout, int64_t channels);
void launch_gather(const GatherArgs& a, cudaStream_t stream);

}  // namespace dcnv2::cuda
