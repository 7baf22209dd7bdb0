// SPDX-License-Identifier: BSD-3-Clause
// Samples sorted by their base cell, stably, so that a cell's samples are always in the same order.
// Base cells are the positions -1 .. height - 1 by -1 .. width - 1 of a sample's upper left corner; a
// pixel is touched by the samples of the four cells around it.
#pragma once

#include "cuda/common/common.cuh"

namespace dcnv2::cuda {

// The cells of some images, once for each of `lists` kinds of samples (deform groups, those and taps,
// classes).
struct CellGrid {
  int64_t lists, images, height, width;

  __host__ __device__ int64_t cells() const { return images * (height + 1) * (width + 1); }
  __host__ __device__ int64_t keys() const { return lists * cells(); }
  // The cell whose corner `corner` is pixel (y, x) of image n.
  __device__ __forceinline__ int64_t cell(int64_t n, int64_t y, int64_t x, int corner) const {
    const int64_t row = y + 1 - corner / 2, col = x + 1 - corner % 2;
    return (n * (height + 1) + row) * (width + 1) + col;
  }
};

// Which samples follow one another: those of a cell, list after list, or those of a list, cell after
// cell.
enum class ListOrder { kCellsThenLists, kListsThenCells };

// Samples that many would hold one thread up.
constexpr int kOversized = 1024;

// Those of a cell, among the sorted ones: from begin up to end.
struct SampleRange {
  uint32_t begin, end;
};

// Where sorted samples lie in a workspace. The caller writes ids, which count the samples list after
// list, and keys: a sample's cell, or list * cells + cell with the lists apart. A key of sort_keys() is
// no cell.
struct SortLayout {
  CellGrid grid;
  ListOrder order;
  int64_t samples;
  int64_t keys_in, keys_out, ids_in, ids_out, row_offsets, has_oversized, sort, total;

  SortLayout(const CellGrid& grid, ListOrder order, int64_t samples);
  int64_t sort_keys() const {
    return order == ListOrder::kCellsThenLists ? grid.cells() : grid.keys();
  }
  template <class T>
  T* at(void* workspace, int64_t place) const {
    return reinterpret_cast<T*>(static_cast<char*>(workspace) + place);
  }
};

// Sorts keys and ids from `in` to `out`. start [grid.keys() + 1] becomes how many samples come before
// those of a cell and list, by cell * lists + list or list * cells + cell. With the lists apart, crowded
// becomes 1 if any cell has more than a quarter of a crowd: else no pixel has one around it. The caller
// writes 0 there, and may have keys_in and ids_in, which lie side by side, for itself afterwards.
void sort_samples(const SortLayout& layout, void* workspace, cudaStream_t stream);

inline int64_t align_256(int64_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace dcnv2::cuda
