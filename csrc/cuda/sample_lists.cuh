// SPDX-License-Identifier: BSD-3-Clause
// Which samples touch a pixel. The samples of a run of images are sorted by (deform group, tap,
// base cell), or by (deform group, base cell), stably, so that a list is always in the same order. Base cells are the
// positions -1 .. height - 1 by -1 .. width - 1 of a sample's upper left corner; a pixel is touched
// by the lists of the four cells around it.
#pragma once

#include "common.cuh"

namespace dcnv2::cuda {

// Whether every tap has lists of its own.
enum class Taps { kApart, kTogether };

template <class Acc>
struct SampleLists {
  int64_t first_image, images;  // the run of images that these lists are of
  const uint32_t* row;          // [samples] output pixel, counted within the run; with the taps
                                // together that times taps plus tap
  const Acc* weights;           // [samples, 4] modulation times the corners' bilinear weights
  const uint32_t* start;        // [lists * images * cells + 1] into the two above

  // The list of a base cell: [begin, end) into `row` and `weights`.
  struct Range {
    uint32_t begin, end;
  };
  __device__ __forceinline__ Range list(int64_t cell_key) const {
    return {start[cell_key], start[cell_key + 1]};
  }
};

__host__ __device__ inline int64_t cells_an_image(const ConvGeometry& g) {
  return (g.height + 1) * (g.width + 1);
}

// Key of the list of the cell whose corner `corner` is pixel (y, x) of image n of the run.
__device__ __forceinline__ int64_t cell_key(const ConvGeometry& g, int64_t images, int64_t list,
                                            int64_t n, int64_t y, int64_t x, int corner) {
  const int64_t row = y + 1 - corner / 2, col = x + 1 - corner % 2;
  return ((list * images + n) * (g.height + 1) + row) * (g.width + 1) + col;
}

// Images that one run of lists takes, so that keys and positions fit 32 bits and the workspace stays
// bounded. Throws if a single image is too large.
int64_t images_a_run(const ConvGeometry& g);

template <class Acc>
size_t sample_lists_workspace(const ConvGeometry& g, int64_t images, Taps taps);

template <class Acc>
SampleLists<Acc> build_sample_lists(const ConvArgs& a, int64_t first_image, int64_t images, Taps taps,
                                    void* workspace, cudaStream_t stream);

}  // namespace dcnv2::cuda
