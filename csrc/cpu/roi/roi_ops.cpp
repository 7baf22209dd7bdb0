// SPDX-License-Identifier: BSD-3-Clause
// The operators of both deformable RoI poolings and their backwards on the CPU.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/tensor/operands.h"
#include "cpu/roi/roi_pool.h"

namespace dcnv2::cpu {
namespace {

using Gradients = std::tuple<Tensor, Tensor, Tensor>;
enum Needed { kInput, kOffset, kMask };

RoiOperands align_operands(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                           const OptionalTensor& mask, const Shape& output_size,
                           double spatial_scale, int64_t sampling_ratio, double gamma) {
  const RoiPoolGeometry g = check_deform_roi_pool(
      Operand("input", input), Operand("rois", rois), Operand("offset", offset),
      Operand("mask", mask), output_size, spatial_scale, sampling_ratio, gamma);
  return {g, view(input), view(rois), view(offset), view(mask)};
}

RoiOperands psroi_operands(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                           const OptionalTensor& mask, int64_t output_size, double spatial_scale,
                           int64_t group_size, int64_t part_size, int64_t sample_per_part,
                           double trans_std) {
  const RoiPoolGeometry g =
      check_deform_psroi_pool(Operand("input", input), Operand("rois", rois),
                              Operand("offset", offset), Operand("mask", mask), output_size,
                              spatial_scale, group_size, part_size, sample_per_part, trans_std);
  return {g, view(input), view(rois), view(offset), view(mask)};
}

// Forward(double or float null pointer, output) runs the pass.
template <class Forward>
Tensor pool(const RoiPoolGeometry& g, const Tensor& input, Forward forward) {
  const Tensor output = new_result(input, {g.rois, g.out_channels, g.pooled_h, g.pooled_w},
                                   wants_channels_last(input));
  if (output.numel() == 0) return output;
  with_accumulator(input.scalar_type(), [&](auto* t) { forward(t, view(output)); });
  return output;
}

template <class Backward>
Gradients pool_gradients(const RoiPoolGeometry& g, const Tensor& grad_output, const Tensor& input,
                         const OptionalTensor& offset, const OptionalTensor& mask,
                         const std::vector<bool>& needs, Backward backward) {
  check_grad_output(Operand("grad_output", grad_output), Operand("input", input),
                    {g.rois, g.out_channels, g.pooled_h, g.pooled_w});
  STD_TORCH_CHECK(needs.size() == 3, "needs must hold 3 flags, got ", needs.size());
  const Tensor grad_input = new_gradient(needs[kInput], input, grad_output);
  const Tensor grad_offset = new_gradient(needs[kOffset], offset, grad_output);
  const Tensor grad_mask = new_gradient(needs[kMask], mask, grad_output);
  const RoiGrads grads{gradient_view(grad_input), gradient_view(grad_offset),
                       gradient_view(grad_mask)};
  if (grads.input || grads.offset || grads.mask) {
    with_accumulator(input.scalar_type(), [&](auto* t) { backward(t, view(grad_output), grads); });
  }
  return {grad_input, grad_offset, grad_mask};
}

Tensor deform_roi_pool(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                       const OptionalTensor& mask, Shape output_size, double spatial_scale,
                       int64_t sampling_ratio, double gamma) {
  const RoiOperands operands =
      align_operands(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma);
  return pool(operands.g, input,
              [&]<class T>(T*, const View& output) { roi_pool_forward<T>(operands, output); });
}

Gradients deform_roi_pool_backward(const Tensor& grad_output, const Tensor& input,
                                   const Tensor& rois, const OptionalTensor& offset,
                                   const OptionalTensor& mask, Shape output_size,
                                   double spatial_scale, int64_t sampling_ratio, double gamma,
                                   std::vector<bool> needs) {
  const RoiOperands operands =
      align_operands(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma);
  return pool_gradients(operands.g, grad_output, input, offset, mask, needs,
                        [&]<class T>(T*, const View& grad, const RoiGrads& grads) {
                          roi_pool_backward<T>(operands, grad, grads);
                        });
}

Tensor deform_psroi_pool(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                         const OptionalTensor& mask, int64_t output_size, double spatial_scale,
                         int64_t group_size, int64_t part_size, int64_t sample_per_part,
                         double trans_std) {
  const RoiOperands operands = psroi_operands(input, rois, offset, mask, output_size, spatial_scale,
                                              group_size, part_size, sample_per_part, trans_std);
  return pool(operands.g, input,
              [&]<class T>(T*, const View& output) { psroi_pool_forward<T>(operands, output); });
}

Gradients deform_psroi_pool_backward(const Tensor& grad_output, const Tensor& input,
                                     const Tensor& rois, const OptionalTensor& offset,
                                     const OptionalTensor& mask, int64_t output_size,
                                     double spatial_scale, int64_t group_size, int64_t part_size,
                                     int64_t sample_per_part, double trans_std,
                                     std::vector<bool> needs) {
  const RoiOperands operands = psroi_operands(input, rois, offset, mask, output_size, spatial_scale,
                                              group_size, part_size, sample_per_part, trans_std);
  return pool_gradients(operands.g, grad_output, input, offset, mask, needs,
                        [&]<class T>(T*, const View& grad, const RoiGrads& grads) {
                          psroi_pool_backward<T>(operands, grad, grads);
                        });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CPU, m) {
  m.impl("deform_roi_pool", TORCH_BOX(&deform_roi_pool));
  m.impl("deform_roi_pool_backward", TORCH_BOX(&deform_roi_pool_backward));
  m.impl("deform_psroi_pool", TORCH_BOX(&deform_psroi_pool));
  m.impl("deform_psroi_pool_backward", TORCH_BOX(&deform_psroi_pool_backward));
}

}  // namespace dcnv2::cpu
