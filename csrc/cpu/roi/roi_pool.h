// SPDX-License-Identifier: BSD-3-Clause
// The passes of the two deformable RoI poolings on the CPU. T as in deform_conv2d.h.
#pragma once

#include "roi_geometry.h"
#include "cpu/tensor/view.h"

namespace dcnv2::cpu {

struct RoiOperands {
  RoiPoolGeometry g;
  View input;   // [batch, channels, height, width]
  View rois;    // [rois, 5]: batch index, x1, y1, x2, y2
  View offset;  // [rois, 2 * classes, parts, parts], channels x, y; may be absent
  View mask;    // [rois, 1, pooled_h, pooled_w], may be absent
};

// Gradients, each like its operand; absent ones are not computed.
struct RoiGrads {
  View input, offset, mask;
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
