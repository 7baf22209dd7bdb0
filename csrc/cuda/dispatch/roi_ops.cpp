// SPDX-License-Identifier: BSD-3-Clause
// The operators of both deformable RoI poolings and their backwards on CUDA.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cuda/dispatch/run_plan.h"

namespace dcnv2::cuda {
namespace {

using Optional = std::optional<Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;
enum Needed { kInput, kOffset, kMask };

View4 roi_view(const Tensor& rois) {
  return {rois.data_ptr(), kernel_dtype(rois), rois.stride(0), rois.stride(1), 0, 0};
}

RoiPoolArgs common_args(const RoiPoolGeometry& g, bool psroi, const Tensor& input,
                        const Tensor& rois, const Optional& offset, const Optional& mask) {
  RoiPoolArgs a{};
  a.g = g;
  a.psroi = psroi;
  a.dtype = kernel_dtype(input);
  a.rois = roi_view(rois);
  a.offset = view(offset);
  a.mask = view(mask);
  return a;
}

Tensor forward(RoiPoolArgs a, const Tensor& input) {
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const cudaStream_t stream = current_stream(input);
  const Result output(input, {a.g.rois, a.g.out_channels, a.g.pooled_h, a.g.pooled_w},
                      wants_channels_last(input));
  if (output.wanted.numel() == 0) return output.wanted;
  const Tensor input_nhwc = channels_last(input, stream);
  a.input = input_nhwc.data_ptr();
  a.output = output.written.data_ptr();
  run_plan(plan_roi_pool(a), input, stream);
  return output.finish(stream);
}

Gradients backward(RoiPoolArgs a, const Tensor& grad_output, const Tensor& input,
                   const Optional& offset, const Optional& mask, const std::vector<bool>& needs) {
  check_grad_output(Operand("grad_output", grad_output), Operand("input", input),
                    {a.g.rois, a.g.out_channels, a.g.pooled_h, a.g.pooled_w});
  STD_TORCH_CHECK(needs.size() == 3, "needs must hold 3 flags, got ", needs.size());
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const cudaStream_t stream = current_stream(input);
  auto none = [&] { return no_result(grad_output); };  // a new one each time: results share nothing
  auto like = [&](const Tensor& t) { return new_result(t, sizes_of(t), wants_channels_last(t)); };
  const Tensor grad_offset = needs[kOffset] && offset ? like(*offset) : none();
  const Tensor grad_mask = needs[kMask] && mask ? like(*mask) : none();
  if (a.g.rois == 0 || input.numel() == 0) {
    const Tensor grad_input = needs[kInput] ? like(input) : none();
    for (const Tensor& t : {grad_input, grad_offset, grad_mask}) fill_zero(t, stream);
    return {grad_input, grad_offset, grad_mask};
  }

  const Tensor input_nhwc = channels_last(input, stream);
  const Tensor grad = channels_last(grad_output, stream);
  a.input = input_nhwc.data_ptr();
  a.grad_output = grad.data_ptr();
  if (grad_offset.numel() > 0) a.grad_offset = view(grad_offset);
  if (grad_mask.numel() > 0) a.grad_mask = view(grad_mask);
  if (a.grad_offset.data != nullptr || a.grad_mask.data != nullptr) {
    run_plan(plan_roi_pool_grad_offset_mask(a), input, stream);
  }
  if (!needs[kInput]) return {none(), grad_offset, grad_mask};
  const Result result(input, sizes_of(input), wants_channels_last(input));
  a.grad_input = result.written.data_ptr();
  run_plan(plan_roi_pool_grad_input(a), input, stream);
  return {result.finish(stream), grad_offset, grad_mask};
}

RoiPoolArgs align_args(const Tensor& input, const Tensor& rois, const Optional& offset,
                       const Optional& mask, const Shape& output_size, double spatial_scale,
                       int64_t sampling_ratio, double gamma) {
  const RoiPoolGeometry g = check_deform_roi_pool(
      Operand("input", input), Operand("rois", rois), Operand("offset", offset),
      Operand("mask", mask), output_size, spatial_scale, sampling_ratio, gamma);
  return common_args(g, false, input, rois, offset, mask);
}

RoiPoolArgs psroi_args(const Tensor& input, const Tensor& rois, const Optional& offset,
                       const Optional& mask, int64_t output_size, double spatial_scale,
                       int64_t group_size, int64_t part_size, int64_t sample_per_part,
                       double trans_std) {
  const RoiPoolGeometry g =
      check_deform_psroi_pool(Operand("input", input), Operand("rois", rois),
                              Operand("offset", offset), Operand("mask", mask), output_size,
                              spatial_scale, group_size, part_size, sample_per_part, trans_std);
  return common_args(g, true, input, rois, offset, mask);
}

Tensor deform_roi_pool(const Tensor& input, const Tensor& rois, const Optional& offset,
                       const Optional& mask, Shape output_size, double spatial_scale,
                       int64_t sampling_ratio, double gamma) {
  return forward(
      align_args(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma),
      input);
}

Gradients deform_roi_pool_backward(const Tensor& grad_output, const Tensor& input,
                                   const Tensor& rois, const Optional& offset, const Optional& mask,
                                   Shape output_size, double spatial_scale, int64_t sampling_ratio,
                                   double gamma, std::vector<bool> needs) {
  return backward(
      align_args(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma),
      grad_output, input, offset, mask, needs);
}

Tensor deform_psroi_pool(const Tensor& input, const Tensor& rois, const Optional& offset,
                         const Optional& mask, int64_t output_size, double spatial_scale,
                         int64_t group_size, int64_t part_size, int64_t sample_per_part,
                         double trans_std) {
  return forward(psroi_args(input, rois, offset, mask, output_size, spatial_scale, group_size,
                            part_size, sample_per_part, trans_std),
                 input);
}

Gradients deform_psroi_pool_backward(const Tensor& grad_output, const Tensor& input,
                                     const Tensor& rois, const Optional& offset,
                                     const Optional& mask, int64_t output_size,
                                     double spatial_scale, int64_t group_size, int64_t part_size,
                                     int64_t sample_per_part, double trans_std,
                                     std::vector<bool> needs) {
  return backward(psroi_args(input, rois, offset, mask, output_size, spatial_scale, group_size,
                             part_size, sample_per_part, trans_std),
                  grad_output, input, offset, mask, needs);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CUDA, m) {
  m.impl("deform_roi_pool", TORCH_BOX(&deform_roi_pool));
  m.impl("deform_roi_pool_backward", TORCH_BOX(&deform_roi_pool_backward));
  m.impl("deform_psroi_pool", TORCH_BOX(&deform_psroi_pool));
  m.impl("deform_psroi_pool_backward", TORCH_BOX(&deform_psroi_pool_backward));
}

}  // namespace dcnv2::cuda
