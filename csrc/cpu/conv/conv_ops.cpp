// SPDX-License-Identifier: BSD-3-Clause
// The operators deform_conv2d and deform_conv2d_backward on the CPU.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/conv/deform_conv2d.h"
#include "cpu/tensor/operands.h"

namespace dcnv2::cpu {
namespace {

Tensor deform_conv2d(const Tensor& input, const Tensor& offset, const Tensor& weight,
                     const OptionalTensor& bias, const OptionalTensor& mask, Shape stride,
                     Shape padding, Shape dilation, bool) {
  const ConvGeometry g = check_deform_conv2d(Operand("input", input), Operand("offset", offset),
                                             Operand("weight", weight), Operand("bias", bias),
                                             Operand("mask", mask), stride, padding, dilation);
  const Tensor output = new_result(input, {g.batch, g.out_channels, g.out_height, g.out_width},
                                   wants_channels_last(input));
  if (output.numel() == 0) return output;
  const ConvOperands operands{g, view(input), view(offset), view(mask), view(weight)};
  with_accumulator(input.scalar_type(),
                   [&]<class T>(T*) { conv_forward<T>(operands, view(bias), view(output)); });
  return output;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
enum Needed { kInput, kOffset, kWeight, kBias, kMask };

Gradients deform_conv2d_backward(const Tensor& grad_output, const Tensor& input,
                                 const Tensor& offset, const Tensor& weight,
                                 const OptionalTensor& mask, Shape stride, Shape padding,
                                 Shape dilation, bool, std::vector<bool> needs) {
  const ConvGeometry g = check_deform_conv2d(
      Operand("input", input), Operand("offset", offset), Operand("weight", weight),
      Operand("bias", OptionalTensor{}), Operand("mask", mask), stride, padding, dilation);
  check_grad_output(Operand("grad_output", grad_output), Operand("input", input),
                    {g.batch, g.out_channels, g.out_height, g.out_width});
  require(needs.size() == 5, "needs must hold 5 flags, got ", needs.size());

  const Tensor grad_input = new_gradient(needs[kInput], input, grad_output);
  const Tensor grad_offset = new_gradient(needs[kOffset], offset, grad_output);
  const Tensor grad_weight = new_gradient(needs[kWeight], weight, grad_output);
  const Tensor grad_mask = new_gradient(needs[kMask], mask, grad_output);
  const Tensor grad_bias = needs[kBias]
                               ? new_strided(weight, {g.out_channels}, {1}, dtype_of(weight))
                               : no_result(grad_output);

  const ConvOperands operands{g, view(input), view(offset), view(mask), view(weight)};
  const SampleGrads samples{gradient_view(grad_input), gradient_view(grad_offset),
                            gradient_view(grad_mask)};
  with_accumulator(input.scalar_type(), [&]<class T>(T*) {
    const View grad = view(grad_output);
    if (samples.input || samples.offset || samples.mask) {
      conv_grad_samples<T>(operands, grad, samples);
    }
    if (needs[kWeight]) conv_grad_weight<T>(operands, grad, view(grad_weight));
    if (needs[kBias]) conv_grad_bias<T>(g, grad, view(grad_bias));
  });
  return {grad_input, grad_offset, grad_weight, grad_bias, grad_mask};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CPU, m) {
  m.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  m.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
}

}  // namespace dcnv2::cpu
