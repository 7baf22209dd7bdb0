// SPDX-License-Identifier: BSD-3-Clause
// The passes of a RoI pooling: their arguments without torch, and their plans.
#pragma once

#include "roi_geometry.h"
#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

// The operands of a RoI pooling and of its gradients, in either convention.
struct RoiPoolArgs {
  RoiPoolGeometry g;
  bool psroi;         // the convention: psroi, else align
  Dtype dtype;        // of input, output and grad_output
  const void* input[kMostLevels];  // [batch, height, width, channels] each
  View4 rois;         // [rois, 5, 1, 1]: batch index, x1, y1, x2, y2
  const int64_t* levels;  // [rois], levels_stride elements apart; absent: all of level 0
  int64_t levels_stride;
  View4 offset;  // [rois, 2 * classes, part_size, part_size]; align: one class, one part a bin
  View4 mask;  // [rois, 1, pooled_h, pooled_w]
  void* output;  // [rois, pooled_h, pooled_w, out_channels]
  const void* grad_output;  // [rois, pooled_h, pooled_w, out_channels]
  void* grad_input[kMostLevels];  // as input, absent where it is not needed
  View4 grad_offset;  // as offset
  View4 grad_mask;  // as mask
};

PassPlan plan_roi_pool(const RoiPoolArgs& a);
PassPlan plan_roi_pool_grad_input(const RoiPoolArgs& a);
// The gradients of offset and mask, each only if `a` has a pointer for it.
PassPlan plan_roi_pool_grad_offset_mask(const RoiPoolArgs& a);

}  // namespace dcnv2::cuda
