// SPDX-License-Identifier: BSD-3-Clause
// The inner loops of all passes, compiled once for each instruction set and chosen at run time.
// Knows nothing of torch.
#pragma once

#include <cstdint>

namespace dcnv2::cpu {

// Width of a packed panel: columns of a right-hand matrix that lie side by side.
template <class T>
constexpr int64_t kPanel = 128 / sizeof(T);

// A product c (+)= a * b with b in one panel.
template <class T>
struct PanelProduct {
  int64_t rows, columns, depth;
  const T* a;         // [rows, depth], or [depth, rows] where transposed
  int64_t a_stride;   // elements between the rows of a as it lies in memory
  bool a_transposed;
  const T* b;         // [depth, kPanel<T>]; read up to kPanel<T> elements past the last row
  T* c;               // [rows, columns]
  int64_t c_stride;
  bool accumulate;    // add to c instead of overwriting it
};

template <class T>
struct Kernels {
  void (*panel_product)(const PanelProduct<T>& p);

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

// What the kernels were chosen for: the best that this processor has, unless the environment keeps
// torch's own CPU kernels to less (ATEN_CPU_CAPABILITY=default or avx2).
Instructions instructions();

template <class T>
const Kernels<T>& kernels();

}  // namespace dcnv2::cpu
