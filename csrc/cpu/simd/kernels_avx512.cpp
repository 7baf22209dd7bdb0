// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/simd/kernels_variants.h"

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,fma")
#endif

#define DCNV2_ISA avx512
constexpr int kVectorBytes = 64;
constexpr int kRows = 12;
#include "cpu/simd/kernels.inl"

namespace dcnv2::cpu {

const Kernels<float>& avx512_kernels(float) { return avx512::kTable<float>; }
const Kernels<double>& avx512_kernels(double) { return avx512::kTable<double>; }

}  // namespace dcnv2::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
