// SPDX-License-Identifier: BSD-3-Clause
// Runs passes by their plans, and prints each plan first if DCNV2_PRINT_PLANS=1 is in the
// environment.
#pragma once

#include "cuda/dispatch/operands.h"

namespace dcnv2::cuda {

// Passes one after the other; the weight is packed once for those that follow each other and read
// it in one layout. `input`: of the operator; the memory is on its device.
void run_plans(const std::vector<PassPlan>& plans, const Tensor& input, cudaStream_t stream);

}  // namespace dcnv2::cuda
