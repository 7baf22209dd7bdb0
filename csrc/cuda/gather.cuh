// SPDX-License-Identifier: BSD-3-Clause
// result[pixel, c] = sum over the samples that touch the pixel of corner weight * rows[sample's row, c].
// The samples come sorted by pixel (sample_lists.cuh), so that every pixel adds up its own in a fixed
// order, and nothing is scattered.
#pragma once

#include "sample_lists.cuh"

namespace dcnv2::cuda {

struct GatherArgs {
  SampleLists<float> lists;
  Dtype dtype;            // of rows and result; not float64
  int64_t first, images;  // the images of the lists that `rows` has everything of
  const void* rows;       // [.., channels], of which row `first_row` is there first
  int64_t first_row;
  void* result;           // [lists.grid.images, height, width, channels]
  int64_t channels;       // of all lists: each has its share, a multiple of a chunk
  float* partial;         // gather_workspace bytes; keep it until finish_gather
};

// Bytes for the sums of pieces, for lists of such a layout.
size_t gather_workspace(const ListLayout& layout, int64_t channels);
// Gathers some images; pixels with pieces are left to finish_gather, once all images are gathered.
void launch_gather(const GatherArgs& a, cudaStream_t stream);
void launch_finish_gather(const GatherArgs& a, cudaStream_t stream);

}  // namespace dcnv2::cuda
