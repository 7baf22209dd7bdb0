// SPDX-License-Identifier: BSD-3-Clause
// The passes of a deformable convolution on the CPU, one in each file. T is the type of
// coordinates, weights and sums: double for double tensors, float for all others.
#pragma once

#include "geometry.h"
#include "cpu/simd/kernels.h"
#include "cpu/tensor/layout.h"
#include "cpu/tensor/view.h"

namespace dcnv2::cpu {

// The operands that every pass reads.
struct ConvOperands {
  ConvGeometry g;
  View input;   // [batch, in_channels, height, width]
  View offset;  // [batch, deform_groups * taps * 2, out_height, out_width]
  View mask;    // [batch, deform_groups * taps, out_height, out_width], may be absent
  View weight;  // [out_channels, in_channels / groups, kernel_h, kernel_w]
};

// The input as rows of channels. A copy, if needed, has one channel block for each narrow
// deform group.
template <class T>
ChannelRows<T> rows_of_input(const ConvOperands& operands) {
  const ConvGeometry& g = operands.g;
  const bool narrow = g.deform_channels() < 2 * kPanel<T>;
  return {operands.input,
          {g.batch, g.in_channels, g.height, g.width},
          narrow ? g.deform_channels() : 0};
}

// output [batch, out_channels, out_height, out_width]; bias [out_channels], may be absent.
template <class T>
void conv_forward(const ConvOperands& operands, const View& bias, const View& output);

// Backward passes also read grad_output [batch, out_channels, out_height, out_width].

// The gradients of input, offset and mask, each like its operand; absent ones are not computed.
struct SampleGrads {
  View input, offset, mask;
};
template <class T>
void conv_grad_samples(const ConvOperands& operands, const View& grad_output,
                       const SampleGrads& grads);

// The gradient of weight, like it.
template <class T>
void conv_grad_weight(const ConvOperands& operands, const View& grad_output,
                      const View& grad_weight);

// The gradient of bias, [out_channels].
template <class T>
void conv_grad_bias(const ConvGeometry& g, const View& grad_output, const View& grad_bias);

}  // namespace dcnv2::cpu
