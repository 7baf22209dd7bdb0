// SPDX-License-Identifier: BSD-3-Clause
// Which kernels a convolution takes. The dispatch, the tests and the doctor read the same rule.
#pragma once

#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

// "simt", "mma" or "wgmma".
const char* path_name(Path path);

struct Choice {
  Path path;
  const char* reason;  // why not a faster one, a sentence; empty for the fastest
};

// `capability`: of the device, as major * 10 + minor.
Choice choose_path(const ConvArgs& a, int capability);

// Capability of the current device.
int current_capability();

}  // namespace dcnv2::cuda
