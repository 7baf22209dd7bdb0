// SPDX-License-Identifier: BSD-3-Clause
#include "../build_info.h"

DCNV2_EXPORT const char* dcnv2_build_info() { return DCNV2_BUILD_INFO("cpu", ""); }
