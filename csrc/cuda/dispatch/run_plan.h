// SPDX-License-Identifier: BSD-3-Clause
// Runs passes by their plans, and prints each plan first if DCNV2_PRINT_PLANS=1 is in the
// environment.
#pragma once

#include "cuda/dispatch/operands.h"

namespace dcnv2::cuda {

// Runs passes one after the other; the weight is packed once for those that follow each other and
// read it in one layout.
class PassRunner {
 public:
  // `input`: of the operator; the memory of the passes is on its device.
  PassRunner(const Tensor& input, cudaStream_t stream) : input_(input), stream_(stream) {}
  void run(const PassPlan& plan);

 private:
  const Tensor& input_;
  cudaStream_t stream_;
  std::optional<PackedWeight> packed_;  // the layout of weight_
  OptionalTensor weight_;
};

}  // namespace dcnv2::cuda
