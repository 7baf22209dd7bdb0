// SPDX-License-Identifier: BSD-3-Clause
// Runs a pass that was planned. With DCNV2_PRINT_PLANS=1 in the environment it prints the plan first.
#pragma once

#include "cuda/dispatch/operands.h"

namespace dcnv2::cuda {

// `input`: of the operator; the workspace is on its device.
void run_plan(const PassPlan& plan, const Tensor& input, cudaStream_t stream);

}  // namespace dcnv2::cuda
