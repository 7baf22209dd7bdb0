// SPDX-License-Identifier: BSD-3-Clause
// Tensors without torch: a pointer, a dtype and strides.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>

#include "dtype.h"

namespace dcnv2::cpu {

// A tensor of up to four axes and any layout; strides in elements. An absent operand has no data.
struct View {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  int64_t stride[4] = {0, 0, 0, 0};

  explicit operator bool() const { return data != nullptr; }
};

inline int64_t size_of(Dtype dtype) {
  return dtype == Dtype::kFloat64 ? 8 : dtype == Dtype::kFloat32 ? 4 : 2;
}

// The view that begins `elements` later.
inline View advance(View view, int64_t elements) {
  view.data = static_cast<char*>(view.data) + elements * size_of(view.dtype);
  return view;
}

// Calls f with a null pointer to the element type of `dtype`.
template <class F>
void with_element(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::kFloat64:
      return f(static_cast<double*>(nullptr));
    case Dtype::kFloat32:
      return f(static_cast<float*>(nullptr));
    case Dtype::kFloat16:
      return f(static_cast<c10::Half*>(nullptr));
    case Dtype::kBFloat16:
      return f(static_cast<c10::BFloat16*>(nullptr));
  }
}

// The dtype of coordinates, weights and sums.
template <class T>
constexpr Dtype kDtypeOf = sizeof(T) == 8 ? Dtype::kFloat64 : Dtype::kFloat32;

}  // namespace dcnv2::cpu
