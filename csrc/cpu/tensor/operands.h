// SPDX-License-Identifier: BSD-3-Clause
// Converts torch's tensors to views.
#pragma once

#include "checks.h"
#include "results.h"
#include "cpu/tensor/view.h"

namespace dcnv2::cpu {

// A tensor of two or four axes, or of one, which becomes the second axis of the view.
inline View view(const Tensor& t) {
  View v{t.data_ptr(), kernel_dtype(t.scalar_type())};
  const int64_t first = t.dim() == 1 ? 1 : 0;
  for (int64_t axis = 0; axis < t.dim(); ++axis) v.stride[first + axis] = t.stride(axis);
  return v;
}
inline View view(const OptionalTensor& t) { return t ? view(*t) : View{}; }

// Calls f with a null pointer to the accumulation type of a dtype.
template <class F>
void with_accumulator(ScalarType dtype, F f) {
  if (dtype == ScalarType::Double) {
    f(static_cast<double*>(nullptr));
  } else {
    f(static_cast<float*>(nullptr));
  }
}

// The view of a gradient to compute; absent where it has no element.
inline View gradient_view(const Tensor& t) { return t.numel() > 0 ? view(t) : View{}; }

}  // namespace dcnv2::cpu
