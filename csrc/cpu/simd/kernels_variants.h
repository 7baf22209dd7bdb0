// SPDX-License-Identifier: BSD-3-Clause
// The kernels compiled for more than the default instruction set.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "geometry.h"
#include "cpu/simd/kernels.h"
#include "cpu/simd/shuffle.h"

namespace dcnv2::cpu {

#if defined(__x86_64__)
const Kernels<float>& avx2_kernels(float);
const Kernels<double>& avx2_kernels(double);
const Kernels<float>& avx512_kernels(float);
const Kernels<double>& avx512_kernels(double);
#endif

}  // namespace dcnv2::cpu
