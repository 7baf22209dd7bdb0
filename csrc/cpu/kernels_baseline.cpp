// SPDX-License-Identifier: BSD-3-Clause
// The kernels for what the compiler targets by default (SSE2, NEON, ...), and the choice among all.
#include "kernels.h"
#include "kernels_variants.h"

#define DCNV2_ISA baseline
constexpr int kVectorBytes = 16;
constexpr int kRows = 6;
#include "kernels.inl"

namespace dcnv2::cpu {
namespace {

template <class T>
const Kernels<T>& best() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
    return avx512_kernels(T{});
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_kernels(T{});
#endif
  return baseline::kTable<T>;
}

}  // namespace

template <class T>
const Kernels<T>& kernels() {
  static const Kernels<T>& chosen = best<T>();
  return chosen;
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

}  // namespace dcnv2::cpu
