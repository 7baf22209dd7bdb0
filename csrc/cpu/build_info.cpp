// SPDX-License-Identifier: BSD-3-Clause
#include "build_info.h"

#include "cpu/simd/kernels.h"

DCNV2_EXPORT const char* dcnv2_build_info() {
  using dcnv2::cpu::Instructions;
  switch (dcnv2::cpu::instructions()) {
    case Instructions::kAvx512:
      return DCNV2_BUILD_INFO("cpu", ",\"instructions\":\"avx512\"");
    case Instructions::kAvx2:
      return DCNV2_BUILD_INFO("cpu", ",\"instructions\":\"avx2\"");
    default:
      return DCNV2_BUILD_INFO("cpu", ",\"instructions\":\"baseline\"");
  }
}
