// SPDX-License-Identifier: BSD-3-Clause
// The passes of the RoI poolings behind their operators, on CUDA.
#include "roi_ops.h"

#include <algorithm>

#include "cuda/dispatch/roi_passes.h"
#include "cuda/dispatch/run_plan.h"

namespace dcnv2::cuda {
namespace {

RoiPoolArgs args_of(const RoiPoolCall& call) {
  const Tensor& rois = call.rois;
  RoiPoolArgs a{};
  a.g = call.g;
  a.psroi = call.psroi;
  a.dtype = kernel_dtype(call.inputs[0].scalar_type());
  a.rois = {
      rois.data_ptr(), kernel_dtype(rois.scalar_type()), rois.stride(0), rois.stride(1), 0, 0};
  if (call.levels) {
    a.levels = static_cast<const int64_t*>(call.levels->data_ptr());
    a.levels_stride = call.levels->stride(0);
  }
  a.offset = view(call.offset);
  a.mask = view(call.mask);
  return a;
}

// The inputs channels-last, to keep until the kernels that read them are queued.
std::vector<Tensor> set_inputs(RoiPoolArgs& a, const RoiPoolCall& call, cudaStream_t stream) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    inputs.push_back(channels_last(call.inputs[i], stream));
    a.input[i] = inputs[i].data_ptr();
  }
  return inputs;
}

struct RoiPasses {
  static Tensor forward(const RoiPoolCall& call) {
    const Tensor& input = call.inputs[0];
    const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
    const cudaStream_t stream = current_stream(input);
    const Result output(input, call.output_sizes(), wants_channels_last(input));
    if (output.written.numel() == 0) return output.finish(stream);
    RoiPoolArgs a = args_of(call);
    std::vector<Tensor> inputs_nhwc = set_inputs(a, call, stream);
    a.output = output.written.data_ptr();
    PassRunner(input, stream).run(plan_roi_pool(a));
    inputs_nhwc.clear();
    return output.finish(stream);
  }

  static RoiGradients backward(const RoiPoolCall& call, const Tensor& grad_output,
                               const RoiNeeds& needs) {
    const Tensor& input = call.inputs[0];
    const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
    const cudaStream_t stream = current_stream(input);
    RoiGradients grads{.offset = new_gradient(needs.offset, call.offset, grad_output),
                       .mask = new_gradient(needs.mask, call.mask, grad_output)};
    if (call.g.rois == 0 || input.numel() == 0) {
      for (size_t i = 0; i < call.inputs.size(); ++i) {
        grads.inputs.push_back(new_gradient(needs.inputs[i], call.inputs[i], grad_output));
        fill_zero(grads.inputs[i], stream);
      }
      for (const Tensor& t : {grads.offset, grads.mask}) fill_zero(t, stream);
      return grads;
    }

    OptionalTensor grad = channels_last(grad_output, stream);
    RoiPoolArgs a = args_of(call);
    a.grad_output = grad->data_ptr();
    if (grads.offset.numel() > 0) a.grad_offset = view(grads.offset);
    if (grads.mask.numel() > 0) a.grad_mask = view(grads.mask);
    if (a.grad_offset.data != nullptr || a.grad_mask.data != nullptr) {
      const std::vector<Tensor> inputs_nhwc = set_inputs(a, call, stream);
      PassRunner(input, stream).run(plan_roi_pool_grad_offset_mask(a));
    }
    std::vector<std::optional<Result>> results;
    for (size_t i = 0; i < call.inputs.size(); ++i) {
      const Tensor& of = call.inputs[i];
      results.emplace_back();
      if (!needs.inputs[i]) continue;
      results[i].emplace(of, sizes_of(of), wants_channels_last(of));
      a.grad_input[i] = results[i]->written.data_ptr();
    }
    const bool any =
        std::find(needs.inputs.begin(), needs.inputs.end(), true) != needs.inputs.end();
    if (any) PassRunner(input, stream).run(plan_roi_pool_grad_input(a));
    grad.reset();
    for (const auto& result : results) {
      grads.inputs.push_back(result ? result->finish(stream) : no_result(grad_output));
    }
    return grads;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CUDA, m) { RoiPoolOps<RoiPasses>::implement(m); }

}  // namespace dcnv2::cuda
