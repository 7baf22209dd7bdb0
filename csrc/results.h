// SPDX-License-Identifier: BSD-3-Clause
// Allocation of results, shared by both libraries. The memory format of a result follows its
// operand; dcnv2/ops/schema.py has the rule.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/stableivalue_conversions.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace dcnv2 {

using torch::stable::Tensor;

using Strides4 = std::array<int64_t, 4>;

inline Strides4 contiguous_strides(const std::vector<int64_t>& s) {
  return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
}
inline Strides4 channels_last_strides(const std::vector<int64_t>& s) {
  return {s[1] * s[2] * s[3], 1, s[3] * s[1], s[1]};
}

// Whether a rank-4 tensor has these strides; axes of one element may have any stride.
inline bool has_strides(const Tensor& t, const Strides4& strides) {
  for (int axis = 0; axis < 4; ++axis) {
    if (t.size(axis) != 1 && t.stride(axis) != strides[axis]) return false;
  }
  return true;
}

inline std::vector<int64_t> sizes_of(const Tensor& t) {
  return {t.sizes().begin(), t.sizes().end()};
}

// The memory format that a rank-4 result takes from its operand.
inline bool wants_channels_last(const Tensor& t) {
  return t.numel() > 0 && !t.is_contiguous() && has_strides(t, channels_last_strides(sizes_of(t)));
}

inline Tensor new_strided(const Tensor& like, const std::vector<int64_t>& sizes,
                          const std::vector<int64_t>& strides, int32_t dtype) {
  int32_t device_type, device_index;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(int64_t(sizes.size()), sizes.data(),
                                                  strides.data(), dtype, device_type, device_index,
                                                  &handle));
  return Tensor(handle);
}

inline int32_t dtype_of(const Tensor& t) {
  int32_t dtype;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(t.get(), &dtype));
  return dtype;
}

// A rank-4 tensor of `like`'s dtype and device.
inline Tensor new_result(const Tensor& like, const std::vector<int64_t>& sizes,
                         bool channels_last) {
  const Strides4 s = channels_last ? channels_last_strides(sizes) : contiguous_strides(sizes);
  return new_strided(like, sizes, {s.begin(), s.end()}, dtype_of(like));
}

// The placeholder of a gradient that is not needed.
inline Tensor no_result(const Tensor& like) { return new_strided(like, {0}, {1}, dtype_of(like)); }

// An uninitialised gradient like `operand`, or the placeholder of one that is not needed; a new
// tensor each time, since results share nothing.
inline Tensor new_gradient(bool needed, const std::optional<Tensor>& operand,
                           const Tensor& grad_output) {
  if (!needed || !operand) return no_result(grad_output);
  return new_result(*operand, sizes_of(*operand), wants_channels_last(*operand));
}

}  // namespace dcnv2
