// SPDX-License-Identifier: BSD-3-Clause
// Samples sorted by their base cell. The sort is stable, so the order within a cell is
// deterministic. The base cell is the position of a sample's upper left corner, -1 .. height - 1 by
// -1 .. width - 1; a pixel is touched by the samples of the four cells around it.
#pragma once

#include "cuda/common/elements.cuh"

namespace dcnv2::cuda {

// ---- Cells

// The cells of some images, once for each list: for each deform group, for each deform group and
// tap, or for each class.
struct CellGrid {
  int64_t lists, images, height, width;

  __host__ __device__ int64_t cells() const { return images * (height + 1) * (width + 1); }
  __host__ __device__ int64_t keys() const { return lists * cells(); }
  // The cell whose corner number `corner` is pixel (y, x) of image n.
  __device__ __forceinline__ int64_t cell(int64_t n, int64_t y, int64_t x, int corner) const {
    const int64_t row = y + 1 - corner / 2, col = x + 1 - corner % 2;
    return (n * (height + 1) + row) * (width + 1) + col;
  }
};

// A cell with more samples is shared by several threads (split_cells.cuh).
constexpr int kOversized = 1024;

// The samples [begin, end) of a cell, in sorted order.
struct SampleRange {
  uint32_t begin, end;
};

// ---- Sort

// The arrays of the sort in a workspace. The caller writes ids, which number the samples list by
// list, and keys: the cell of a sample, `cells` for one in no cell. The cells may be those of
// several grids, one after the other. The arrays that only the sort needs are last, from keys_in
// on.
struct SortLayout {
  int64_t lists, cells;
  int64_t samples;
  int64_t keys_out, ids_out, row_offsets, keys_in, ids_in, sort, total;

  SortLayout(int64_t lists, int64_t cells, int64_t samples);
  int64_t keys() const { return lists * cells; }
  // Where memory begins that is free after the sort.
  int64_t free() const { return keys_in; }
  template <class T>
  T* at(void* workspace, int64_t place) const {
    return reinterpret_cast<T*>(static_cast<char*>(workspace) + place);
  }
};

// Sorts keys and ids from `in` to `out`, by cell and then list, and writes row_offsets
// [keys() + 1], the number of samples before those of a cell and list, indexed by
// cell * lists + list. Afterwards all memory from layout.free() on is free.
void sort_samples(const SortLayout& layout, void* workspace, cudaStream_t stream);

inline int64_t align_256(int64_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace dcnv2::cuda
