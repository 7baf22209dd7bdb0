// SPDX-License-Identifier: BSD-3-Clause
// Which samples touch a pixel. Samples are sorted by their base cell, stably, so that a list is always
// in the same order. Base cells are the positions -1 .. height - 1 by -1 .. width - 1 of a sample's
// upper left corner; a pixel is touched by the lists of the four cells around it.
#pragma once

#include "common.cuh"

namespace dcnv2::cuda {

// The cells of some images, once for each of `lists` kinds of samples (deform groups, or those and
// taps).
struct CellGrid {
  int64_t lists, images, height, width;

  __host__ __device__ int64_t keys() const { return lists * images * (height + 1) * (width + 1); }
  // Key of the cell whose corner `corner` is pixel (y, x) of image n.
  __device__ __forceinline__ int64_t key(int64_t list, int64_t n, int64_t y, int64_t x,
                                         int corner) const {
    const int64_t row = y + 1 - corner / 2, col = x + 1 - corner % 2;
    return ((list * images + n) * (height + 1) + row) * (width + 1) + col;
  }
};

// Lists of more entries than this around a pixel would hold one thread up: they are cut in pieces.
constexpr int kPieceEntries = 1024;
struct Piece {
  uint32_t pixel;  // over lists, images, height, width
  uint32_t part;   // entries part * kPieceEntries .. of those around the pixel
  uint32_t first, parts;  // the pieces of that pixel
};

template <class Acc>
struct SampleLists {
  CellGrid grid;
  const uint32_t* row;    // [samples] what a sample adds, by the caller's count
  const Acc* weights;     // [samples, 4] weights of the corners
  const uint32_t* start;  // [keys + 1] into the two above
  const uint32_t* piece_count;
  const Piece* pieces;

  // The list of a base cell: [begin, end) into `row` and `weights`.
  struct Range {
    uint32_t begin, end;
  };
  __device__ __forceinline__ Range list(int64_t key) const { return {start[key], start[key + 1]}; }
};

// The entries around a pixel. The cells to the left and right of it are neighbours, and so are their
// lists: those above the pixel, then those at it.
struct Entries {
  uint32_t begin[2] = {}, middle[2] = {}, end[2] = {};

  // Where an entry lies in the lists, and which of its corners the pixel is.
  struct Place {
    uint32_t index;
    int corner;
  };

  Entries() = default;
  // n: over lists and images.
  __device__ Entries(const SampleLists<float>& lists, int64_t n, int64_t y, int64_t x)
      : Entries(lists.start, uint32_t(lists.grid.key(0, n, y, x, 1)), uint32_t(lists.grid.width + 1)) {}
  // key: that of the cell whose corner 1 is the pixel; line: cells of a line.
  __device__ Entries(const uint32_t* start, uint32_t key, uint32_t line) {
#pragma unroll
    for (int down = 0; down < 2; ++down) {
      const uint32_t* left = start + (key - down * line);
      begin[down] = left[0];
      middle[down] = left[1];
      end[down] = left[2];
    }
  }
  __device__ uint32_t count() const { return end[0] - begin[0] + end[1] - begin[1]; }
  __device__ Place place(uint32_t index) const {
    const uint32_t above = end[0] - begin[0];
    const bool down = index >= above;
    const uint32_t at = down ? begin[1] + (index - above) : begin[0] + index;
    return {at, 2 * down + (at < (down ? middle[1] : middle[0]) ? 1 : 0)};
  }
};

// Where lists of so many samples lie in a workspace. The caller writes keys and ids (a key of
// grid.keys() is no cell), sort_samples sorts them, and the caller turns each sorted id into its row
// and weights; the number of pieces is bounded by most_pieces.
struct ListLayout {
  CellGrid grid;
  int64_t samples, most_pieces;
  int64_t keys_in, keys_out, ids_in, ids_out, weights, start, count, pieces, sort, total;

  ListLayout(const CellGrid& grid, int64_t samples, size_t acc_size);
  template <class T>
  T* at(void* workspace, int64_t place) const {
    return reinterpret_cast<T*>(static_cast<char*>(workspace) + place);
  }
  template <class Acc>
  SampleLists<Acc> lists(void* workspace) const {
    return {grid,
            at<uint32_t>(workspace, ids_out),
            at<Acc>(workspace, weights),
            at<uint32_t>(workspace, start),
            at<uint32_t>(workspace, count),
            at<Piece>(workspace, pieces)};
  }
};
void sort_samples(const ListLayout& layout, void* workspace, cudaStream_t stream);

// ---- lists of a convolution's samples

// Whether every tap has lists of its own.
enum class Taps { kApart, kTogether };

// Images that one run of lists takes, so that keys and positions fit 32 bits and the workspace stays
// bounded. Throws if a single image is too large.
int64_t images_a_run(const ConvGeometry& g);

ListLayout sample_lists_layout(const ConvGeometry& g, int64_t images, Taps taps, size_t acc_size);

// Rows are output pixels, counted within the run; with the taps together, that times taps plus tap.
// Weights are the modulation times the corners' bilinear weights.
template <class Acc>
SampleLists<Acc> build_sample_lists(const ConvArgs& a, int64_t first_image, int64_t images, Taps taps,
                                    void* workspace, cudaStream_t stream);

}  // namespace dcnv2::cuda
