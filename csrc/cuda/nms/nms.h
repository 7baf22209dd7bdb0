// SPDX-License-Identifier: BSD-3-Clause
// Batched non-maximum suppression: its arguments without torch, and its plan.
#pragma once

#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

// A tensor [images, boxes] or [images, boxes, 4] of any layout; strides in elements.
struct NmsView {
  const void* data;
  int64_t stride_image, stride_box, stride_side;

  DCNV2_HD int64_t index(int64_t image, int64_t box, int64_t side = 0) const {
    return image * stride_image + box * stride_box + side * stride_side;
  }
};

struct NmsArgs {
  int64_t images, boxes_per_image, max_out;
  double iou_threshold;
  Dtype dtype;     // of boxes and scores: float32 or float64
  NmsView boxes;   // [images, boxes, 4]: x1, y1, x2, y2
  NmsView groups;  // [images, boxes], int64_t
  NmsView scores;  // [images, boxes], descending; -inf where there is no box
  NmsView order;   // [images, boxes], int64_t: the index into boxes and groups of each score
  int64_t* indices;  // [images, max_out]
  int64_t* counts;   // [images]
};

PassPlan plan_batched_nms(const NmsArgs& a);

}  // namespace dcnv2::cuda
