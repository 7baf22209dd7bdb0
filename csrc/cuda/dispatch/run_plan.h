// SPDX-License-Identifier: BSD-3-Clause
// Runs a pass by its plan, and prints the plan first if DCNV2_PRINT_PLANS=1 is in the environment.
#pragma once

#include "cuda/dispatch/operands.h"

namespace dcnv2::cuda {

// `input`: of the operator; the workspace is on its device.
void run_plan(const PassPlan& plan, const Tensor& input, cudaStream_t stream);

}  // namespace dcnv2::cuda
