// SPDX-License-Identifier: BSD-3-Clause
#include "build_info.h"

#ifndef DCNV2_ARCH_LIST
#define DCNV2_ARCH_LIST "unknown"
#endif

DCNV2_EXPORT const char* dcnv2_build_info() {
  return DCNV2_BUILD_INFO("cuda", ",\"arch_list\":\"" DCNV2_ARCH_LIST "\"");
}
