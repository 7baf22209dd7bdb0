// SPDX-License-Identifier: BSD-3-Clause
// The arguments of a convolution's kernels, without torch.
#pragma once

#include <cstdint>

#include "dtype.h"
#include "geometry.h"

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

}  // namespace dcnv2::cuda
