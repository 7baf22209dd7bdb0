// SPDX-License-Identifier: BSD-3-Clause
// The interface between the dispatch and the kernels: a plan for each pass.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "cuda/dispatch/conv_args.h"
#include "cuda/tensor_core/packed_weight.h"

namespace dcnv2::cuda {

// The packed weight that a pass reads, and what packs it.
struct WeightPlan {
  PackedWeight layout;
  size_t bytes;
  std::function<void(void* to, cudaStream_t stream)> pack;
};

// The memory of a pass, which must live until the stream has run the kernels.
struct PassMemory {
  void* weight = nullptr;  // packed; with merged groups, the flag is behind it
  void* workspace = nullptr;
};

// A pass of an operator, decided once for each call: how it runs and the memory that it needs.
struct PassPlan {
  const char* pass;
  Path path = Path::kSimt;
  int tile_cols = 0;  // columns of the output tile of a fused kernel's block
  std::optional<WeightPlan> weight = {};
  size_t workspace = 0;  // bytes
  std::function<void(const PassMemory& memory, cudaStream_t stream)> launch;
};

PassPlan plan_forward(const ConvArgs& a);
PassPlan plan_fused_forward(const ConvArgs& a, Path path);

// Gathers each pixel's contributions from the samples, sorted by their base pixel.
PassPlan plan_grad_input(const ConvArgs& a);
// The same as a matrix product without columns; nullopt if tiles would mix deform groups.
std::optional<PassPlan> plan_fused_grad_input(const ConvArgs& a, Path path);

// The gradients of offset and mask, each only if `a` has a pointer for it.
PassPlan plan_grad_offset_mask(const ConvArgs& a);
// The same, and the gradient of the input by columns in memory; nullopt if that does not fit.
std::optional<PassPlan> plan_fused_input_offset_mask(const ConvArgs& a, Path path);

// Split-K: partial sums over shares of the output pixels, added in order.
PassPlan plan_grad_weight(const ConvArgs& a);
PassPlan plan_fused_grad_weight(const ConvArgs& a, Path path);
PassPlan plan_grad_bias(const ConvArgs& a);

// Copies [n, c, y, x] of any layout, both of one dtype.
void launch_copy(const View4& from, const View4& to, const int64_t size[4], cudaStream_t stream);

}  // namespace dcnv2::cuda
