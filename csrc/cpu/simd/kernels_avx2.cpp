// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/simd/kernels_variants.h"

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define DCNV2_ISA avx2
constexpr int kVectorBytes = 32;
constexpr int kRows = 6;
#include "cpu/simd/kernels.inl"

namespace dcnv2::cpu {

const Kernels<float>& avx2_kernels(float) { return avx2::kTable<float>; }
const Kernels<double>& avx2_kernels(double) { return avx2::kTable<double>; }

}  // namespace dcnv2::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
