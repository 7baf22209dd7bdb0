// SPDX-License-Identifier: BSD-3-Clause
// The inner loops of all passes, compiled once for each instruction set and chosen at run time.
// They do not depend on torch.
#pragma once

#include <cstdint>

namespace dcnv2::cpu {

// Width of a packed panel: adjacent columns of a right-hand matrix.
template <class T>
constexpr int64_t kPanel = 128 / sizeof(T);

// Columns of the widest vector. A row of b is read up to a multiple of it.
template <class T>
constexpr int64_t kVectorColumns = kPanel<T> / 2;

// A product c (+)= a * b, where b is one packed panel, or a matrix of any width and row stride.
template <class T>
struct PanelProduct {
  int64_t rows, columns, depth;
  int64_t blocks;  // a and b are so many blocks, each `depth` deep, whose products are added up
  const T* a;  // block: [rows, depth], or [depth, rows] where transposed
  int64_t a_stride;  // elements between the rows of a as it lies in memory
  int64_t a_block;  // elements between the blocks of a
  bool a_transposed;
  const T* b;  // [blocks * depth, columns]; rows are read in whole vectors: see kVectorColumns
  int64_t b_stride = kPanel<T>;
  T* c;  // [rows, columns]
  int64_t c_stride;
  bool accumulate;  // add to c instead of overwriting it
};

// c[i, j] += the dot product of row i of a with row j of b.
template <class T>
struct RowDots {
  int64_t rows, columns, depth;
  const T* a;  // [rows, depth]
  int64_t a_stride;
  const T* b;  // [columns, depth]
  int64_t b_stride;
  T* c;  // [rows, columns]
  int64_t c_stride;
};

// The rows of channels of one image: that of pixel (y, x) is at data + y * y_stride + x * x_stride.
template <class T>
struct ImageRows {
  T* data;
  int64_t y_stride, x_stride;
};

// Values of y in a SampleRun that mark a sample without four corners; all are negative.
constexpr int kOutside = -1, kBorder = -3;

// The positions of the samples of consecutive output pixels.
template <class T>
struct SampleRun {
  int64_t count;
  // [count] upper left corner. Samples that lack a corner are left out, and are the caller's: y is
  // kOutside where all are off the map or the place is NaN, and kBorder - y where some are.
  int *y, *x;
  T *ly, *lx;  // [count] distances from the corner; both NaN where either coordinate is
  T* weight;  // [4, weight_stride] of the corners: bilinear weight times mask
  int64_t weight_stride;
};

// Output pixels of one row, and the terms of their sample positions.
template <class T>
struct Places {
  int64_t count, height, width;  // pixels; extents of the map
  T row;  // undeformed y of all
  const T* column;  // [count] undeformed x
  const T *offset_y, *offset_x, *mask;  // [count]
};

template <class T>
struct Kernels {
  void (*panel_product)(const PanelProduct<T>& p);
  void (*row_dots)(const RowDots<T>& d);

  // Fills the run's arrays from `first` on, with `places.count` samples.
  void (*locate)(const Places<T>& places, const SampleRun<T>& run, int64_t first);

  // out[p, c] = modulated sample p of channel c; rows of out are `out_stride` apart.
  void (*sample_rows)(const SampleRun<T>& run, const ImageRows<const T>& image, int64_t channels,
                      T* out, int64_t out_stride);

  // dots[p, i] = sum over c of corner i of sample p, channel c, times grad[p, c].
  void (*dot_samples)(const SampleRun<T>& run, const ImageRows<const T>& image, int64_t channels,
                      const T* grad, int64_t grad_stride, T* dots);

  // Adds grad[p, c] times the weights to the four corners of sample p.
  void (*scatter_samples)(const SampleRun<T>& run, const ImageRows<T>& image, int64_t channels,
                          const T* grad, int64_t grad_stride);

  // out[c] = sum over i of weights[i] * rows[i][c].
  void (*weighted_sum)(const T* const* rows, const T* weights, int64_t count, int64_t channels,
                       T* out);

  // dots[i] = sum over c of rows[i][c] * grad[c].
  void (*dot_rows)(const T* const* rows, int64_t count, const T* grad, int64_t channels, T* dots);

  // rows[i][c] += weights[i] * grad[c]; the rows are distinct.
  void (*scatter_rows)(T* const* rows, const T* weights, int64_t count, const T* grad,
                       int64_t channels);
};

enum class Instructions { kBaseline, kAvx2, kAvx512 };

// The instruction set of the chosen kernels: the best of this processor, unless the environment
// restricts torch's own CPU kernels (ATEN_CPU_CAPABILITY=default or avx2).
Instructions instructions();

template <class T>
const Kernels<T>& kernels();

}  // namespace dcnv2::cpu
