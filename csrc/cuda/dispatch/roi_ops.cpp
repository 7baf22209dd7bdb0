// SPDX-License-Identifier: BSD-3-Clause
// The passes of both deformable RoI poolings behind their operators, on CUDA.
#include "roi_ops.h"

#include "cuda/dispatch/roi_passes.h"
#include "cuda/dispatch/run_plan.h"

namespace dcnv2::cuda {
namespace {

RoiPoolArgs args_of(const RoiPoolCall& call) {
  const Tensor& rois = call.rois;
  RoiPoolArgs a{};
  a.g = call.g;
  a.psroi = call.psroi;
  a.dtype = kernel_dtype(call.input.scalar_type());
  a.rois = {
      rois.data_ptr(), kernel_dtype(rois.scalar_type()), rois.stride(0), rois.stride(1), 0, 0};
  a.offset = view(call.offset);
  a.mask = view(call.mask);
  return a;
}

struct RoiPasses {
  static Tensor forward(const RoiPoolCall& call) {
    const Tensor& input = call.input;
    const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
    const cudaStream_t stream = current_stream(input);
    const Result output(input, call.output_sizes(), wants_channels_last(input));
    if (output.written.numel() == 0) return output.finish(stream);
    OptionalTensor input_nhwc = channels_last(input, stream);
    RoiPoolArgs a = args_of(call);
    a.input = input_nhwc->data_ptr();
    a.output = output.written.data_ptr();
    PassRunner(input, stream).run(plan_roi_pool(a));
    input_nhwc.reset();
    return output.finish(stream);
  }

  static RoiGradients backward(const RoiPoolCall& call, const Tensor& grad_output,
                               const std::vector<bool>& needs) {
    const Tensor& input = call.input;
    const bool need_input = needs[size_t(RoiNeed::kInput)];
    const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
    const cudaStream_t stream = current_stream(input);
    const Tensor grad_offset =
        new_gradient(needs[size_t(RoiNeed::kOffset)], call.offset, grad_output);
    const Tensor grad_mask = new_gradient(needs[size_t(RoiNeed::kMask)], call.mask, grad_output);
    if (call.g.rois == 0 || input.numel() == 0) {
      const Tensor grad_input = new_gradient(need_input, input, grad_output);
      for (const Tensor& t : {grad_input, grad_offset, grad_mask}) fill_zero(t, stream);
      return {grad_input, grad_offset, grad_mask};
    }

    OptionalTensor input_nhwc = channels_last(input, stream);
    OptionalTensor grad = channels_last(grad_output, stream);
    RoiPoolArgs a = args_of(call);
    a.input = input_nhwc->data_ptr();
    a.grad_output = grad->data_ptr();
    if (grad_offset.numel() > 0) a.grad_offset = view(grad_offset);
    if (grad_mask.numel() > 0) a.grad_mask = view(grad_mask);
    if (a.grad_offset.data != nullptr || a.grad_mask.data != nullptr) {
      PassRunner(input, stream).run(plan_roi_pool_grad_offset_mask(a));
    }
    input_nhwc.reset();
    if (!need_input) return {no_result(grad_output), grad_offset, grad_mask};
    const Result result(input, sizes_of(input), wants_channels_last(input));
    a.grad_input = result.written.data_ptr();
    PassRunner(input, stream).run(plan_roi_pool_grad_input(a));
    grad.reset();
    return {result.finish(stream), grad_offset, grad_mask};
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CUDA, m) { RoiPoolOps<RoiPasses>::implement(m); }

}  // namespace dcnv2::cuda
