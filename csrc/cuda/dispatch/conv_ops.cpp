// SPDX-License-Identifier: BSD-3-Clause
// The operators deform_conv2d and deform_conv2d_backward on CUDA.
#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/dispatch/merge_groups.h"
#include "cuda/dispatch/paths.h"
#include "cuda/dispatch/run_plan.h"

namespace dcnv2::cuda {
namespace {

Tensor deform_conv2d(const Tensor& input, const Tensor& offset, const Tensor& weight,
                     const OptionalTensor& bias, const OptionalTensor& mask, Shape stride,
                     Shape padding, Shape dilation, bool allow_tf32) {
  const ConvGeometry g = check_deform_conv2d(Operand("input", input), Operand("offset", offset),
                                             Operand("weight", weight), Operand("bias", bias),
                                             Operand("mask", mask), stride, padding, dilation);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const cudaStream_t stream = current_stream(input);
  const Shape sizes{g.batch, g.out_channels, g.out_height, g.out_width};
  const Result output(input, sizes, wants_channels_last(input));
  if (output.written.numel() == 0) return output.finish(stream);

  OptionalTensor input_nhwc = channels_last(input, stream);
  ConvArgs a{};
  a.g = g;
  a.dtype = kernel_dtype(input.scalar_type());
  a.allow_tf32 = allow_tf32;
  a.input = input_nhwc->data_ptr();
  a.offset = view(offset);
  a.mask = view(mask);
  a.weight = view(weight);
  a.bias = bias ? bias->data_ptr() : nullptr;
  a.bias_stride = bias ? bias->stride(0) : 0;
  a.output = output.written.data_ptr();
  const Path path = choose_path(a, current_capability()).path;
  PassRunner(input, stream)
      .run(path == Path::kSimt ? plan_forward(a) : plan_fused_forward(merge_groups(a, path), path));
  input_nhwc.reset();
  return output.finish(stream);
}

// The passes for the gradients of input, offset and mask that `a` requests by a pointer. None reads
// the input of an image after its gradient is written, since both may be in the same memory.
std::vector<PassPlan> plan_sample_gradients(const ConvArgs& a, Path path) {
  std::vector<PassPlan> plans;
  auto add = [&](std::optional<PassPlan> plan) {
    if (plan) plans.push_back(*std::move(plan));
    return plan.has_value();
  };
  std::optional<PassPlan> fused_input;
  if (a.grad_input != nullptr) {
    fused_input = plan_fused_grad_input(a, path);
    if (!fused_input && add(plan_fused_input_offset_mask(a, path))) return plans;
  }
  ConvArgs no_input = a;
  no_input.grad_input = nullptr;
  const bool offset_mask = a.grad_offset.data != nullptr || a.grad_mask.data != nullptr;
  if (offset_mask && !add(plan_fused_input_offset_mask(no_input, path))) {
    add(plan_grad_offset_mask(unmerge_groups(no_input)));
  }
  // If the columns of an image are too large, its grad_input is left to the SIMT kernel.
  if (a.grad_input != nullptr && !add(std::move(fused_input))) {
    add(plan_grad_input(unmerge_groups(a)));
  }
  return plans;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
enum Needed { kInput, kOffset, kWeight, kBias, kMask };

Gradients deform_conv2d_backward(const Tensor& grad_output, const Tensor& input,
                                 const Tensor& offset, const Tensor& weight,
                                 const OptionalTensor& mask, Shape stride, Shape padding,
                                 Shape dilation, bool allow_tf32, std::vector<bool> needs) {
  const ConvGeometry g = check_deform_conv2d(
      Operand("input", input), Operand("offset", offset), Operand("weight", weight),
      Operand("bias", OptionalTensor{}), Operand("mask", mask), stride, padding, dilation);
  check_grad_output(Operand("grad_output", grad_output), Operand("input", input),
                    {g.batch, g.out_channels, g.out_height, g.out_width});
  require(needs.size() == 5, "needs must hold 5 flags, got ", needs.size());
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const cudaStream_t stream = current_stream(input);

  auto gradient = [&](Needed which, const OptionalTensor& operand) {
    return new_gradient(needs[which], operand, grad_output);
  };
  const Tensor grad_weight = gradient(kWeight, weight);
  const Tensor grad_bias = needs[kBias]
                               ? new_strided(weight, {g.out_channels}, {1}, dtype_of(weight))
                               : no_result(grad_output);
  const Tensor input_nhwc = channels_last(input, stream);
  OptionalTensor grad = channels_last(grad_output, stream);
  ConvArgs a{};
  a.g = g;
  a.dtype = kernel_dtype(input.scalar_type());
  a.allow_tf32 = allow_tf32;
  a.input = input_nhwc.data_ptr();
  a.grad_output = grad->data_ptr();
  a.offset = view(offset);
  a.mask = view(mask);
  a.weight = view(weight);

  PassRunner passes(input, stream);
  if (g.batch == 0) fill_zero(grad_bias, stream);
  if (needs[kBias] && g.batch > 0) {
    a.grad_bias = grad_bias.data_ptr();
    passes.run(plan_grad_bias(a));
  }
  if (g.batch == 0 || input.numel() == 0) {  // nothing is sampled
    const Tensor grad_input = gradient(kInput, input), grad_offset = gradient(kOffset, offset);
    const Tensor grad_mask = gradient(kMask, mask);
    for (const Tensor& t : {grad_input, grad_offset, grad_mask, grad_weight}) fill_zero(t, stream);
    return {grad_input, grad_offset, grad_weight, grad_bias, grad_mask};
  }
  const Path path = choose_path(a, current_capability()).path;
  if (path != Path::kSimt) a = merge_groups(a, path);
  if (needs[kWeight]) {
    a.grad_weight = view(grad_weight);
    passes.run(path == Path::kSimt ? plan_grad_weight(a) : plan_fused_grad_weight(a, path));
  }
  // Not allocated before, as the workspace of grad_weight is large.
  const Tensor grad_offset = gradient(kOffset, offset), grad_mask = gradient(kMask, mask);
  if (needs[kOffset]) a.grad_offset = view(grad_offset);
  if (needs[kMask] && mask) a.grad_mask = view(grad_mask);
  std::optional<Result> grad_input;
  if (needs[kInput]) {  // in the memory of the input's copy, if there is one
    const bool copied = input_nhwc.get() != input.get();
    grad_input.emplace(input, sizes_of(input), wants_channels_last(input),
                       copied ? OptionalTensor(input_nhwc) : OptionalTensor());
    a.grad_input = grad_input->written.data_ptr();
  }
  for (const PassPlan& plan : plan_sample_gradients(a, path)) passes.run(plan);
  grad.reset();
  return {grad_input ? grad_input->finish(stream) : no_result(grad_output), grad_offset,
          grad_weight, grad_bias, grad_mask};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CUDA, m) {
  m.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  m.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
}

}  // namespace dcnv2::cuda
