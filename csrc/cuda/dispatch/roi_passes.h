// SPDX-License-Identifier: BSD-3-Clause
// The passes of a deformable RoI pooling: their arguments without torch, and their plans.
#pragma once

#include "roi_geometry.h"
#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

// The operands of a deformable RoI pooling and of its gradients, in either convention.
struct RoiPoolArgs {
  RoiPoolGeometry g;
  bool psroi;         // the convention: psroi, else align
  Dtype dtype;        // of input, output and grad_output
  const void* input;  // [batch, height, width, channels]
  View4 rois;         // [rois, 5, 1, 1]: batch index, x1, y1, x2, y2
  View4 offset;  // [rois, 2 * classes, part_size, part_size]; align: one class, one part a bin
  View4 mask;  // [rois, 1, pooled_h, pooled_w]
  void* output;  // [rois, pooled_h, pooled_w, out_channels]
  const void* grad_output;  // [rois, pooled_h, pooled_w, out_channels]
  void* grad_input;  // [batch, height, width, channels]
  View4 grad_offset;  // as offset
  View4 grad_mask;  // as mask
};

PassPlan plan_roi_pool(const RoiPoolArgs& a);
PassPlan plan_roi_pool_grad_input(const RoiPoolArgs& a);
// The gradients of offset and mask, each only if `a` has a pointer for it.
PassPlan plan_roi_pool_grad_offset_mask(const RoiPoolArgs& a);

}  // namespace dcnv2::cuda
