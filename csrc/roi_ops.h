// SPDX-License-Identifier: BSD-3-Clause
// The operators of the RoI poolings and their backwards, with checked arguments; each library has
// the passes behind them.
#pragma once

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "checks.h"
#include "results.h"

namespace dcnv2 {

// Which gradients a backward returns, and these; a placeholder for one that it does not.
struct RoiNeeds {
  std::vector<bool> inputs;
  bool offset, mask;
};
struct RoiGradients {
  std::vector<Tensor> inputs;
  Tensor offset, mask;
};

// The checked operands of a call, in either convention: psroi, else align.
struct RoiPoolCall {
  RoiPoolGeometry g;
  bool psroi;
  std::vector<Tensor> inputs;  // one for each level
  const Tensor& rois;
  OptionalTensor levels;  // of the rois; absent: all of the first
  OptionalTensor offset, mask;

  Shape output_sizes() const { return {g.rois, g.out_channels, g.pooled_h, g.pooled_w}; }
  void check_backward(const Tensor& grad_output) const {
    check_grad_output(Operand("grad_output", grad_output), Operand("input", inputs[0]),
                      output_sizes());
  }
};

inline RoiPoolCall align_call(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                              const OptionalTensor& mask, const Shape& output_size,
                              double spatial_scale, int64_t sampling_ratio, double gamma) {
  const RoiPoolGeometry g = check_deform_roi_pool(
      Operand("input", input), Operand("rois", rois), Operand("offset", offset),
      Operand("mask", mask), output_size, spatial_scale, sampling_ratio, gamma);
  return {.g = g, .psroi = false, .inputs = {input}, .rois = rois, .offset = offset, .mask = mask};
}

inline RoiPoolCall multiscale_call(const std::vector<Tensor>& inputs, const Tensor& rois,
                                   const Tensor& levels, const Shape& output_size,
                                   const std::vector<double>& spatial_scales,
                                   int64_t sampling_ratio, bool aligned) {
  std::vector<Operand> operands;
  for (size_t i = 0; i < inputs.size(); ++i) {
    operands.emplace_back(i < kMostLevels ? kInputNames[i] : "inputs", inputs[i]);
  }
  const RoiPoolGeometry g =
      check_multiscale_roi_align(operands, Operand("rois", rois), Operand("levels", levels),
                                 output_size, spatial_scales, sampling_ratio, aligned);
  return {.g = g, .psroi = false, .inputs = inputs, .rois = rois, .levels = levels};
}

inline RoiPoolCall psroi_call(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                              const OptionalTensor& mask, int64_t output_size, double spatial_scale,
                              int64_t group_size, int64_t part_size, int64_t sample_per_part,
                              double trans_std) {
  const RoiPoolGeometry g =
      check_deform_psroi_pool(Operand("input", input), Operand("rois", rois),
                              Operand("offset", offset), Operand("mask", mask), output_size,
                              spatial_scale, group_size, part_size, sample_per_part, trans_std);
  return {.g = g, .psroi = true, .inputs = {input}, .rois = rois, .offset = offset, .mask = mask};
}

// Pass::forward(call) returns the output; Pass::backward(call, grad_output, needs) the gradients,
// after call.check_backward().
template <class Pass>
struct RoiPoolOps {
  // The gradients of input, offset and mask, in the order of the flags `needs`.
  using PoolGradients = std::tuple<Tensor, Tensor, Tensor>;

  static Tensor align(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                      const OptionalTensor& mask, Shape output_size, double spatial_scale,
                      int64_t sampling_ratio, double gamma) {
    return Pass::forward(
        align_call(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma));
  }

  static PoolGradients align_backward(const Tensor& grad_output, const Tensor& input,
                                      const Tensor& rois, const OptionalTensor& offset,
                                      const OptionalTensor& mask, Shape output_size,
                                      double spatial_scale, int64_t sampling_ratio, double gamma,
                                      std::vector<bool> needs) {
    return pool_backward(
        align_call(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma),
        grad_output, needs);
  }

  static Tensor psroi(const Tensor& input, const Tensor& rois, const OptionalTensor& offset,
                      const OptionalTensor& mask, int64_t output_size, double spatial_scale,
                      int64_t group_size, int64_t part_size, int64_t sample_per_part,
                      double trans_std) {
    return Pass::forward(psroi_call(input, rois, offset, mask, output_size, spatial_scale,
                                    group_size, part_size, sample_per_part, trans_std));
  }

  static PoolGradients psroi_backward(const Tensor& grad_output, const Tensor& input,
                                      const Tensor& rois, const OptionalTensor& offset,
                                      const OptionalTensor& mask, int64_t output_size,
                                      double spatial_scale, int64_t group_size, int64_t part_size,
                                      int64_t sample_per_part, double trans_std,
                                      std::vector<bool> needs) {
    return pool_backward(psroi_call(input, rois, offset, mask, output_size, spatial_scale,
                                    group_size, part_size, sample_per_part, trans_std),
                         grad_output, needs);
  }

  static Tensor multiscale(std::vector<Tensor> inputs, const Tensor& rois, const Tensor& levels,
                           Shape output_size, std::vector<double> spatial_scales,
                           int64_t sampling_ratio, bool aligned) {
    return Pass::forward(multiscale_call(inputs, rois, levels, output_size, spatial_scales,
                                         sampling_ratio, aligned));
  }

  static std::vector<Tensor> multiscale_backward(const Tensor& grad_output,
                                                 std::vector<Tensor> inputs, const Tensor& rois,
                                                 const Tensor& levels, Shape output_size,
                                                 std::vector<double> spatial_scales,
                                                 int64_t sampling_ratio, bool aligned,
                                                 std::vector<bool> needs) {
    const RoiPoolCall call =
        multiscale_call(inputs, rois, levels, output_size, spatial_scales, sampling_ratio, aligned);
    call.check_backward(grad_output);
    require(needs.size() == inputs.size(), "needs must hold ", inputs.size(), " flags, got ",
            needs.size());
    return Pass::backward(call, grad_output, {.inputs = needs, .offset = false, .mask = false})
        .inputs;
  }

  // Registers the operators with a library of torch.
  template <class Library>
  static void implement(Library& m) {
    m.impl("deform_roi_pool", TORCH_BOX(&RoiPoolOps::align));
    m.impl("deform_roi_pool_backward", TORCH_BOX(&RoiPoolOps::align_backward));
    m.impl("deform_psroi_pool", TORCH_BOX(&RoiPoolOps::psroi));
    m.impl("deform_psroi_pool_backward", TORCH_BOX(&RoiPoolOps::psroi_backward));
    m.impl("multiscale_roi_align", TORCH_BOX(&RoiPoolOps::multiscale));
    m.impl("multiscale_roi_align_backward", TORCH_BOX(&RoiPoolOps::multiscale_backward));
  }

 private:
  static PoolGradients pool_backward(const RoiPoolCall& call, const Tensor& grad_output,
                                     const std::vector<bool>& needs) {
    call.check_backward(grad_output);
    require(needs.size() == 3, "needs must hold 3 flags, got ", needs.size());
    const RoiGradients grads = Pass::backward(
        call, grad_output, {.inputs = {needs[0]}, .offset = needs[1], .mask = needs[2]});
    return {grads.inputs[0], grads.offset, grads.mask};
  }
};

}  // namespace dcnv2
