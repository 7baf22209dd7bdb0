// SPDX-License-Identifier: BSD-3-Clause
// The operators of both deformable RoI poolings and their backwards, with checked arguments; each
// library has the passes behind them.
#pragma once

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "checks.h"
#include "results.h"

namespace dcnv2 {

// The gradients of input, offset and mask, in the order of the flags `needs`.
using RoiGradients = std::tuple<Tensor, Tensor, Tensor>;
enum class RoiNeed { kInput, kOffset, kMask };

// The checked operands of a call, in either convention: psroi, else align.
struct RoiPoolCall {
  RoiPoolGeometry g;
  bool psroi;
  const Tensor &input, &rois;
  const OptionalTensor &offset, &mask;

  Shape output_sizes() const { return {g.rois, g.out_channels, g.pooled_h, g.pooled_w}; }
  void check_backward(const Tensor& grad_output, const std::vector<bool>& needs) const {
    check_grad_output(Operand("grad_output", grad_output), Operand("input", input), output_sizes());
    require(needs.size() == 3, "needs must hold 3 flags, got ", needs.size());
  }
};

inline RoiPoolCall align_call(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                              const OptionalTensor& mask, const Shape& output_size,
                              double spatial_scale, int64_t sampling_ratio, double gamma) {
  const RoiPoolGeometry g = check_deform_roi_pool(
      Operand("input", input), Operand("rois", rois), Operand("offset", offset),
      Operand("mask", mask), output_size, spatial_scale, sampling_ratio, gamma);
  return {.g = g, .psroi = false, .input = input, .rois = rois, .offset = offset, .mask = mask};
}

inline RoiPoolCall psroi_call(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                              const OptionalTensor& mask, int64_t output_size, double spatial_scale,
                              int64_t group_size, int64_t part_size, int64_t sample_per_part,
                              double trans_std) {
  const RoiPoolGeometry g =
      check_deform_psroi_pool(Operand("input", input), Operand("rois", rois),
                              Operand("offset", offset), Operand("mask", mask), output_size,
                              spatial_scale, group_size, part_size, sample_per_part, trans_std);
  return {.g = g, .psroi = true, .input = input, .rois = rois, .offset = offset, .mask = mask};
}

// Pass::forward(call) returns the output; Pass::backward(call, grad_output, needs) the gradients,
// after call.check_backward().
template <class Pass>
struct RoiPoolOps {
  static Tensor align(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                      const OptionalTensor& mask, Shape output_size, double spatial_scale,
                      int64_t sampling_ratio, double gamma) {
    return Pass::forward(
        align_call(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma));
  }

  static RoiGradients align_backward(const Tensor& grad_output, const Tensor& input,
                                     const Tensor& rois, const OptionalTensor& offset,
                                     const OptionalTensor& mask, Shape output_size,
                                     double spatial_scale, int64_t sampling_ratio, double gamma,
                                     std::vector<bool> needs) {
    const RoiPoolCall call =
        align_call(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma);
    call.check_backward(grad_output, needs);
    return Pass::backward(call, grad_output, needs);
  }

  static Tensor psroi(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                      const OptionalTensor& mask, int64_t output_size, double spatial_scale,
                      int64_t group_size, int64_t part_size, int64_t sample_per_part,
                      double trans_std) {
    return Pass::forward(psroi_call(input, rois, offset, mask, output_size, spatial_scale,
                                    group_size, part_size, sample_per_part, trans_std));
  }

  static RoiGradients psroi_backward(const Tensor& grad_output, const Tensor& input,
                                     const Tensor& rois, const OptionalTensor& offset,
                                     const OptionalTensor& mask, int64_t output_size,
                                     double spatial_scale, int64_t group_size, int64_t part_size,
                                     int64_t sample_per_part, double trans_std,
                                     std::vector<bool> needs) {
    const RoiPoolCall call = psroi_call(input, rois, offset, mask, output_size, spatial_scale,
                                        group_size, part_size, sample_per_part, trans_std);
    call.check_backward(grad_output, needs);
    return Pass::backward(call, grad_output, needs);
  }

  // Registers the operators with a library of torch.
  template <class Library>
  static void implement(Library& m) {
    m.impl("deform_roi_pool", TORCH_BOX(&RoiPoolOps::align));
    m.impl("deform_roi_pool_backward", TORCH_BOX(&RoiPoolOps::align_backward));
    m.impl("deform_psroi_pool", TORCH_BOX(&RoiPoolOps::psroi));
    m.impl("deform_psroi_pool_backward", TORCH_BOX(&RoiPoolOps::psroi_backward));
  }
};

}  // namespace dcnv2
