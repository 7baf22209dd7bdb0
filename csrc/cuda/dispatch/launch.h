// SPDX-License-Identifier: BSD-3-Clause
// What the torch-facing side and the kernels agree on: plain arguments and one launcher a pass.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "roi_geometry.h"

namespace dcnv2::cuda {

enum class Dtype { kFloat64, kFloat32, kFloat16, kBFloat16 };

// A rank-4 tensor of any layout; strides in elements. No data: the operand is absent.
struct View4 {
  void* data;
  Dtype dtype;
  int64_t stride_n, stride_c, stride_y, stride_x;

  DCNV2_HD int64_t index(int64_t n, int64_t c, int64_t y, int64_t x) const {
    return n * stride_n + c * stride_c + y * stride_y + x * stride_x;
  }
};

// The operands of a deformable convolution and of its gradients. What a pass does not use is absent.
struct ConvArgs {
  ConvGeometry g;
  Dtype dtype;        // of input, weight, bias, output and grad_output
  bool allow_tf32;    // float32 may be multiplied with 11 bits
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
};

void launch_forward(const ConvArgs& a, cudaStream_t stream);

// The fused kernels sample into shared memory and multiply on tensor cores: by the instructions of a
// warp, or by those of Hopper's warpgroups (halves, and floats in the forward).
enum class Path { kSimt, kMma, kWgmma };

size_t fused_forward_workspace(const ConvArgs& a, Path path);
void launch_fused_forward(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream);
size_t fused_grad_weight_workspace(const ConvArgs& a, Path path);
void launch_fused_grad_weight(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream);
// The gradient of the input without columns, where the channels of a deform group fill tiles.
bool fused_grad_input_fits(const ConvArgs& a, Path path);
size_t fused_grad_input_workspace(const ConvArgs& a, Path path);
void launch_fused_grad_input(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream);
// The gradients of offset and mask, and of the input by columns, as far as they are asked for; where
// it fits.
bool fused_input_offset_mask_fits(const ConvArgs& a, Path path);
size_t fused_input_offset_mask_workspace(const ConvArgs& a, Path path);
void launch_fused_input_offset_mask(const ConvArgs& a, Path path, void* workspace,
                                    cudaStream_t stream);

// Gathers each pixel's share from samples sorted by their base pixel. The workspace is
// grad_input_workspace(a) bytes.
size_t grad_input_workspace(const ConvArgs& a);
void launch_grad_input(const ConvArgs& a, void* workspace, cudaStream_t stream);

void launch_grad_offset_mask(const ConvArgs& a, cudaStream_t stream);

// Partial sums over runs of output pixels, then added in order. The workspaces are
// grad_weight_workspace(a) and grad_bias_workspace(a) bytes.
size_t grad_weight_workspace(const ConvArgs& a);
void launch_grad_weight(const ConvArgs& a, void* workspace, cudaStream_t stream);
size_t grad_bias_workspace(const ConvArgs& a);
void launch_grad_bias(const ConvArgs& a, void* workspace, cudaStream_t stream);

// The operands of a deformable RoI pooling and of its gradients, in either convention.
struct RoiPoolArgs {
  RoiPoolGeometry g;
  bool psroi;         // the convention: psroi, else align
  Dtype dtype;        // of input, output and grad_output
  const void* input;  // [batch, height, width, channels]
  View4 rois;         // [rois, 5, 1, 1]: batch index, x1, y1, x2, y2
  View4 offset;       // [rois, 2 * classes, part_size, part_size]; align: one class, a part a bin
  View4 mask;         // [rois, 1, pooled_h, pooled_w]
  void* output;             // [rois, pooled_h, pooled_w, out_channels]
  const void* grad_output;  // [rois, pooled_h, pooled_w, out_channels]
  void* grad_input;         // [batch, height, width, channels]
  View4 grad_offset;        // as offset
  View4 grad_mask;          // as mask
};

void launch_roi_pool(const RoiPoolArgs& a, cudaStream_t stream);
// The workspace is roi_pool_grad_input_workspace(a) bytes.
size_t roi_pool_grad_input_workspace(const RoiPoolArgs& a);
void launch_roi_pool_grad_input(const RoiPoolArgs& a, void* workspace, cudaStream_t stream);
// As far as they are asked for.
void launch_roi_pool_grad_offset_mask(const RoiPoolArgs& a, cudaStream_t stream);

// Copies [n, c, y, x] of any layout, both of one dtype.
void launch_copy(const View4& from, const View4& to, const int64_t size[4], cudaStream_t stream);

}  // namespace dcnv2::cuda
