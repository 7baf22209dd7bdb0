// SPDX-License-Identifier: BSD-3-Clause
// The rule that chooses the kernels of a convolution, for the dispatch, the tests and the doctor.
#pragma once

#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

// "simt", "mma" or "wgmma".
const char* path_name(Path path);

struct Choice {
  Path path;
  const char* reason;  // why no faster path, a sentence; empty for the fastest
};

// `capability`: compute capability of the device, major * 10 + minor.
Choice choose_path(const ConvArgs& a, int capability);

// Compute capability of the current device.
int current_capability();

}  // namespace dcnv2::cuda
