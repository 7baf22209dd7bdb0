// SPDX-License-Identifier: BSD-3-Clause
// deform_conv2d and its backward on CUDA, as torch sees them.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cuda/dispatch/operands.h"
#include "cuda/dispatch/paths.h"

namespace dcnv2::cuda {
namespace {

using Optional = std::optional<Tensor>;

Tensor deform_conv2d(const Tensor& input, const Tensor& offset, const Tensor& weight,
                     const Optional& bias, const Optional& mask, Shape stride, Shape padding,
                     Shape dilation, bool allow_tf32) {
  const ConvGeometry g =
      check_deform_conv2d(Operand("input", input), Operand("offset", offset),
                          Operand("weight", weight), Operand("bias", bias), Operand("mask", mask),
                          stride, padding, dilation);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const cudaStream_t stream = current_stream(input);
  const Shape sizes{g.batch, g.out_channels, g.out_height, g.out_width};
  const Result output(input, sizes, wants_channels_last(input));
  if (output.wanted.numel() == 0) return output.wanted;

  const Tensor input_nhwc = channels_last(input, stream);
  ConvArgs a{};
  a.g = g;
  a.dtype = kernel_dtype(input);
  a.allow_tf32 = allow_tf32;
  a.input = input_nhwc.data_ptr();
  a.offset = view(offset);
  a.mask = view(mask);
  a.weight = view(weight);
  a.bias = bias ? bias->data_ptr() : nullptr;
  a.bias_stride = bias ? bias->stride(0) : 0;
  a.output = output.written.data_ptr();
  const Path path = choose_path(a, current_capability()).path;
  if (path == Path::kSimt) {
    launch_forward(a, stream);
  } else {
    const Tensor workspace = new_workspace(input, fused_forward_workspace(a, path));
    launch_fused_forward(a, path, workspace.data_ptr(), stream);
  }
  return output.finish(stream);
}

// The gradients of input, offset and mask, as far as `a` has a place for them.
void launch_sample_gradients(ConvArgs a, const Tensor& like, Path path, cudaStream_t stream) {
  if (a.grad_input != nullptr && fused_grad_input_fits(a, path)) {
    const Tensor workspace = new_workspace(like, fused_grad_input_workspace(a, path));
    launch_fused_grad_input(a, path, workspace.data_ptr(), stream);
    a.grad_input = nullptr;
  }
  const bool offset_mask = a.grad_offset.data != nullptr || a.grad_mask.data != nullptr;
  if (!offset_mask && a.grad_input == nullptr) return;
  // Where the columns of an image are too large, its grad_input is left to the SIMT kernel.
  ConvArgs fused = a;
  if (!fused_input_offset_mask_fits(fused, path)) fused.grad_input = nullptr;
  const bool fits = fused_input_offset_mask_fits(fused, path);
  if (fits && (offset_mask || fused.grad_input != nullptr)) {
    const Tensor workspace = new_workspace(like, fused_input_offset_mask_workspace(fused, path));
    launch_fused_input_offset_mask(fused, path, workspace.data_ptr(), stream);
  } else if (offset_mask) {
    launch_grad_offset_mask(a, stream);
  }
  if (a.grad_input != nullptr && fused.grad_input == nullptr) {
    const Tensor workspace = new_workspace(like, grad_input_workspace(a));
    launch_grad_input(a, workspace.data_ptr(), stream);
  }
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
enum Needed { kInput, kOffset, kWeight, kBias, kMask };

Gradients deform_conv2d_backward(const Tensor& grad_output, const Tensor& input,
                                 const Tensor& offset, const Tensor& weight, const Optional& mask,
                                 Shape stride, Shape padding, Shape dilation, bool allow_tf32,
                                 std::vector<bool> needs) {
  const ConvGeometry g = check_deform_conv2d(
      Operand("input", input), Operand("offset", offset), Operand("weight", weight),
      Operand("bias", Optional{}), Operand("mask", mask), stride, padding, dilation);
  check_grad_output(Operand("grad_output", grad_output), Operand("input", input),
                    {g.batch, g.out_channels, g.out_height, g.out_width});
  STD_TORCH_CHECK(needs.size() == 5, "needs must hold 5 flags, got ", needs.size());
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const cudaStream_t stream = current_stream(input);

  const bool need_mask = needs[kMask] && mask.has_value();
  auto like = [&](const Tensor& t) { return new_result(t, sizes_of(t), wants_channels_last(t)); };
  auto none = [&] { return no_result(grad_output); };  // a new one each time: results share nothing
  const Tensor grad_offset = needs[kOffset] ? like(offset) : none();
  const Tensor grad_mask = need_mask ? like(*mask) : none();
  const Tensor grad_weight = needs[kWeight] ? like(weight) : none();
  const Tensor grad_bias = needs[kBias] ? new_strided(weight, {g.out_channels}, {1}, dtype_of(weight))
                                        : none();
  const bool empty = g.batch == 0 || input.numel() == 0;
  if (empty) {  // nothing is sampled, so only the bias may have a gradient
    const Tensor grad_input = needs[kInput] ? like(input) : none();
    for (const Tensor& t : {grad_input, grad_offset, grad_mask, grad_weight}) fill_zero(t, stream);
    if (g.batch == 0) {
      fill_zero(grad_bias, stream);
      return {grad_input, grad_offset, grad_weight, grad_bias, grad_mask};
    }
  }

  const Tensor input_nhwc = channels_last(input, stream);
  const Tensor grad = channels_last(grad_output, stream);
  ConvArgs a{};
  a.g = g;
  a.dtype = kernel_dtype(input);
  a.allow_tf32 = allow_tf32;
  a.input = input_nhwc.data_ptr();
  a.grad_output = grad.data_ptr();
  a.offset = view(offset);
  a.mask = view(mask);
  a.weight = view(weight);

  if (needs[kBias]) {
    a.grad_bias = grad_bias.data_ptr();
    const Tensor workspace = new_workspace(input, grad_bias_workspace(a));
    launch_grad_bias(a, workspace.data_ptr(), stream);
  }
  if (empty) {
    return {needs[kInput] ? like(input) : none(), grad_offset, grad_weight, grad_bias, grad_mask};
  }
  const Path path = choose_path(a, current_capability()).path;
  if (needs[kWeight]) {
    a.grad_weight = view(grad_weight);
    const bool fused = path != Path::kSimt;
    const Tensor workspace = new_workspace(
        input, fused ? fused_grad_weight_workspace(a, path) : grad_weight_workspace(a));
    fused ? launch_fused_grad_weight(a, path, workspace.data_ptr(), stream)
          : launch_grad_weight(a, workspace.data_ptr(), stream);
  }
  if (needs[kOffset]) a.grad_offset = view(grad_offset);
  if (need_mask) a.grad_mask = view(grad_mask);
  std::optional<Result> grad_input;
  if (needs[kInput]) {
    grad_input.emplace(input, sizes_of(input), wants_channels_last(input));
    a.grad_input = grad_input->written.data_ptr();
  }
  launch_sample_gradients(a, input, path, stream);
  return {grad_input ? grad_input->finish(stream) : none(), grad_offset, grad_weight, grad_bias,
          grad_mask};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CUDA, m) {
  m.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  m.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
}

}  // namespace dcnv2::cuda
