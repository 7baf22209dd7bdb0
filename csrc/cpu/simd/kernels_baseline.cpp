// SPDX-License-Identifier: BSD-3-Clause
// The kernels for what the compiler targets by default (SSE2, NEON, ...), and the choice among all.
#include <cstdlib>
#include <string>

#include "cpu/simd/kernels_variants.h"

#define DCNV2_ISA baseline
constexpr int kVectorBytes = 16;
constexpr int kRows = 6;
#include "cpu/simd/kernels.inl"

namespace dcnv2::cpu {
namespace {

// The best instruction set of this processor, or the lower one that PyTorch is restricted to.
Instructions best() {
#if defined(__x86_64__)
  const char* set = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string wanted = set ? set : "";
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
  if (avx512 && wanted != "avx2" && wanted != "default") return Instructions::kAvx512;
  if (avx2 && wanted != "default") return Instructions::kAvx2;
#endif
  return Instructions::kBaseline;
}

}  // namespace

Instructions instructions() {
  static const Instructions chosen = best();
  return chosen;
}

template <class T>
const Kernels<T>& kernels() {
#if defined(__x86_64__)
  if (instructions() == Instructions::kAvx512) return avx512_kernels(T{});
  if (instructions() == Instructions::kAvx2) return avx2_kernels(T{});
#endif
  return baseline::kTable<T>;
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

}  // namespace dcnv2::cpu
