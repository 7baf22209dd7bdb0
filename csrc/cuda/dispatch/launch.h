// SPDX-License-Identifier: BSD-3-Clause
// The interface between the dispatch and the kernels: arguments without torch, and a plan for each
// pass.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "dtype.h"
#include "geometry.h"
#include "cuda/tensor_core/packed_weight.h"

namespace dcnv2::cuda {

// A rank-4 tensor of any layout; strides in elements. An absent operand has no data.
struct View4 {
  void* data;
  Dtype dtype;
  int64_t stride_n, stride_c, stride_y, stride_x;

  DCNV2_HD int64_t index(int64_t n, int64_t c, int64_t y, int64_t x) const {
    return n * stride_n + c * stride_c + y * stride_y + x * stride_x;
  }
};

// The operands of a deformable convolution and of its gradients. Those that a pass does not use are
// absent.
struct ConvArgs {
  ConvGeometry g;
  Dtype dtype;        // of input, weight, bias, output and grad_output
  bool allow_tf32;    // products of float32 may use TF32
  const void* input;  // [batch, height, width, in_channels]
  View4 offset;       // [batch, deform_groups * taps * 2, out_height, out_width]
  View4 mask;         // [batch, deform_groups * taps, out_height, out_width]
  View4 weight;       // [out_channels, in_channels / groups, kernel_h, kernel_w]
  const void* bias;         // [out_channels], bias_stride elements apart
  int64_t bias_stride;
  void* output;             // [batch, out_height, out_width, out_channels]
  const void* grad_output;  // [batch, out_height, out_width, out_channels]
  void* grad_input;         // [batch, height, width, in_channels]
  View4 grad_offset;        // as offset
  View4 grad_weight;        // as weight
  void* grad_bias;          // [out_channels]
  View4 grad_mask;          // as mask
  // Weight groups of `weight` that make up one group of g (dispatch/merge_groups.h).
  int64_t merged_groups = 1;
  // With merged groups: a flag that a kernel sets if it writes a value that is not finite, which the
  // zeros of a block-diagonal weight may have spread to another group. The SIMT kernels, given the
  // flag, compute such values anew and leave all others.
  uint32_t* nonfinite;
};

// The kernels of a convolution: the SIMT kernels support every dtype and shape; the fused kernels
// sample into shared memory and multiply on tensor cores, by mma.sync or by Hopper's wgmma.
enum class Path { kSimt, kMma, kWgmma };

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
