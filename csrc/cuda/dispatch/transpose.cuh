// SPDX-License-Identifier: BSD-3-Clause
// Copies between contiguous and channels-last tensors as transpositions of matrices.
#pragma once

#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

// Copies [n, c, y, x] between a contiguous and a channels-last tensor of one dtype. Returns false,
// and launches nothing, for any other pair of layouts and for elements of 8 bytes.
bool launch_transpose(const View4& from, const View4& to, const int64_t size[4],
                      cudaStream_t stream);

}  // namespace dcnv2::cuda
