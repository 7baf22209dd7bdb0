// SPDX-License-Identifier: BSD-3-Clause
// The operator batched_nms with checked arguments; each library has the pass behind it.
#pragma once

#include <torch/csrc/stable/library.h>

#include <array>
#include <tuple>

#include "checks.h"
#include "results.h"

namespace dcnv2 {

struct NmsCall {
  int64_t images, boxes_per_image, max_out;
  double iou_threshold;
  const Tensor &boxes, &scores, &groups;
};

// The kept indices [images, max_out] and their counts [images].
using NmsResults = std::tuple<Tensor, Tensor>;

inline NmsCall check_batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups,
                                 double iou_threshold, int64_t max_out) {
  const Operand corners("boxes", boxes);
  check_rank(corners, 3, "images, boxes, x1 y1 x2 y2");
  require(corners.dtype == ScalarType::Float || corners.dtype == ScalarType::Double,
          "boxes must be float32 or float64, got ", toString(corners.dtype));
  const int64_t images = corners.sizes[0], count = corners.sizes[1];
  check_shape(corners, {images, count, 4}, "images, boxes, x1 y1 x2 y2");
  const std::pair<Operand, ScalarType> others[] = {{Operand("scores", scores), corners.dtype},
                                                   {Operand("groups", groups), ScalarType::Long}};
  for (const auto& [operand, dtype] : others) {
    require(operand.dtype == dtype, operand.name, " must be ", toString(dtype), ", got ",
            toString(operand.dtype));
    check_shape(operand, {images, count}, "images, boxes");
    require(operand.device == corners.device, operand.name, " must be on the device of boxes");
  }
  check_limit(kIouThreshold, {iou_threshold});
  check_limit(kMaxOut, {max_out});
  return {.images = images,
          .boxes_per_image = count,
          .max_out = max_out,
          .iou_threshold = iou_threshold,
          .boxes = boxes,
          .scores = scores,
          .groups = groups};
}

inline NmsResults new_nms_results(const NmsCall& call) {
  const int32_t dtype = dtype_of(call.groups);
  return {new_strided(call.groups, {call.images, call.max_out}, {call.max_out, 1}, dtype),
          new_strided(call.groups, {call.images}, {1}, dtype)};
}

// The scores of each image in descending order and their indices, by torch's stable sort: equal
// scores keep their order, NaN comes first. Both may have any strides.
struct SortedScores {
  Tensor scores, order;

  explicit SortedScores(const Tensor& unsorted) {
    using torch::stable::detail::from;
    using torch::stable::detail::to;
    const bool stable = true, descending = true;
    const int64_t axis = 1;
    std::array<StableIValue, 4> stack{from(unsorted), from(std::optional<bool>(stable)), from(axis),
                                      from(descending)};
    TORCH_ERROR_CODE_CHECK(
        torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
    scores = to<Tensor>(stack[0]);
    order = to<Tensor>(stack[1]);
  }
};

// Pass::run(call) returns the results.
template <class Pass>
struct NmsOps {
  static NmsResults batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups,
                                double iou_threshold, int64_t max_out) {
    return Pass::run(check_batched_nms(boxes, scores, groups, iou_threshold, max_out));
  }

  template <class Library>
  static void implement(Library& m) {
    m.impl("batched_nms", TORCH_BOX(&NmsOps::batched_nms));
  }
};

}  // namespace dcnv2
