// SPDX-License-Identifier: BSD-3-Clause
// The samples of a convolution that touch a pixel, with a list for each deform group and tap.
#pragma once

#include "cuda/sample_sort/sorted_samples.cuh"

namespace dcnv2::cuda {

// ---- Lists

template <class Acc>
struct SampleLists {
  CellGrid grid;
  const uint32_t* row;    // [samples] output pixels, counted within the lists' images
  const Acc* weights;     // [samples, 4] modulation times the corners' bilinear weights
  const uint32_t* row_offsets;  // [keys + 1] into the two above
  // [samples] grid.keys() for a sample in no cell; not written unless *has_oversized
  const uint32_t* keys;
  uint32_t samples;
  const uint32_t* has_oversized;  // 0: no pixel has more than kOversized samples around it
  void* spare;              // 8 bytes for each sample

  // The samples of a key.
  __device__ __forceinline__ SampleRange list(int64_t key) const {
    return {row_offsets[key], row_offsets[key + 1]};
  }
  // The key of the cell whose corner number `corner` is the pixel.
  __device__ __forceinline__ int64_t key(int64_t list, int64_t n, int64_t y, int64_t x,
                                         int corner) const {
    return list * grid.cells() + grid.cell(n, y, x, corner);
  }
};

// ---- Entries of a pixel

// The entries of a pixel: the samples of the four cells around it. The left and right cell of a
// line are neighbours in the lists, so there are two ranges: one of the line above the pixel, and
// one of its own line.
struct Entries {
  uint32_t begin[2] = {}, middle[2] = {}, end[2] = {};

  // The index of an entry in the lists, and which corner of it the pixel is.
  struct Position {
    uint32_t index;
    int corner;
  };

  Entries() = default;
  // key: of the cell whose corner 1 is the pixel; line: number of cells in a line.
  __device__ Entries(const uint32_t* row_offsets, uint32_t key, uint32_t line) {
#pragma unroll
    for (int down = 0; down < 2; ++down) {
      const uint32_t* left = row_offsets + (key - down * line);
      begin[down] = left[0];
      middle[down] = left[1];
      end[down] = left[2];
    }
  }
  // The entries of the cell whose corner number `corner` is the pixel.
  __device__ SampleRange cell(int corner) const {
    const int down = corner / 2;
    return corner % 2 == 1 ? SampleRange{begin[down], middle[down]}
                           : SampleRange{middle[down], end[down]};
  }
  __device__ uint32_t count() const { return end[0] - begin[0] + end[1] - begin[1]; }
  __device__ Position position(uint32_t index) const {
    const uint32_t above = end[0] - begin[0];
    const bool down = index >= above;
    const uint32_t at = down ? begin[1] + (index - above) : begin[0] + index;
    return {at, 2 * down + (at < (down ? middle[1] : middle[0]) ? 1 : 0)};
  }
};

// ---- Launch

// Images that are sorted together, so that keys and indices fit 32 bits and the workspace is
// bounded. Throws if a single image is too large.
int64_t images_per_pass(const ConvGeometry& g);

// The number of samples of `images` images, over deform groups and taps.
int64_t sample_count(const ConvGeometry& g, int64_t images);

// Bytes of a workspace for the lists of `images` images.
int64_t sample_lists_workspace(const ConvGeometry& g, int64_t images, size_t acc_size);

template <class Acc>
SampleLists<Acc> build_sample_lists(const ConvArgs& a, int64_t first_image, int64_t images,
                                    void* workspace, cudaStream_t stream);

}  // namespace dcnv2::cuda
