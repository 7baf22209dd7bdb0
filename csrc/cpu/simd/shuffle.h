// SPDX-License-Identifier: BSD-3-Clause
// Shuffles of two vectors of 16 bytes, for any compiler.
#pragma once

namespace dcnv2::cpu {

// The type of a shuffle's lane indices.
template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef int type __attribute__((vector_size(16)));
};
template <>
struct Lanes<double> {
  typedef long long type __attribute__((vector_size(16)));
};

}  // namespace dcnv2::cpu

#if defined(__clang__)
#define DCNV2_SHUFFLE(T, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define DCNV2_SHUFFLE(T, a, b, ...) \
  __builtin_shuffle(a, b, typename dcnv2::cpu::Lanes<T>::type{__VA_ARGS__})
#endif
