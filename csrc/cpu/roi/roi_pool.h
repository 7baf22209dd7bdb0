// SPDX-License-Identifier: BSD-3-Clause
// The passes of the RoI poolings on the CPU. T as in deform_conv2d.h.
#pragma once

#include <vector>

#include "roi_geometry.h"
#include "cpu/tensor/view.h"

namespace dcnv2::cpu {

struct RoiOperands {
  RoiPoolGeometry g;
  std::vector<View> inputs;  // [batch, channels, height, width] of each level
  View rois;    // [rois, 5]: batch index, x1, y1, x2, y2
  const int64_t* levels;  // [rois], levels_stride elements apart; absent: all of level 0
  int64_t levels_stride;
  View offset;  // [rois, 2 * classes, parts, parts], channels x, y; may be absent
  View mask;    // [rois, 1, pooled_h, pooled_w], may be absent
};

// Gradients, each like its operand; absent ones are not computed.
struct RoiGrads {
  std::vector<View> inputs;
  View offset, mask;
};

// output and grad_output are [rois, out_channels, pooled_h, pooled_w].
template <class T>
void roi_pool_forward(const RoiOperands& operands, const View& output);
template <class T>
void roi_pool_backward(const RoiOperands& operands, const View& grad_output, const RoiGrads& grads);

template <class T>
void psroi_pool_forward(const RoiOperands& operands, const View& output);
template <class T>
void psroi_pool_backward(const RoiOperands& operands, const View& grad_output,
                         const RoiGrads& grads);

}  // namespace dcnv2::cpu
