// SPDX-License-Identifier: BSD-3-Clause
// The passes of the RoI poolings behind their operators, on the CPU.
#include "roi_ops.h"

#include "cpu/roi/roi_pool.h"
#include "cpu/tensor/operands.h"

namespace dcnv2::cpu {
namespace {

RoiOperands operands_of(const RoiPoolCall& call) {
  RoiOperands operands{
      .g = call.g, .rois = view(call.rois), .offset = view(call.offset), .mask = view(call.mask)};
  for (const Tensor& input : call.inputs) operands.inputs.push_back(view(input));
  if (call.levels) {
    operands.levels = static_cast<const int64_t*>(call.levels->data_ptr());
    operands.levels_stride = call.levels->stride(0);
  }
  return operands;
}

struct RoiPasses {
  static Tensor forward(const RoiPoolCall& call) {
    const Tensor& input = call.inputs[0];
    const Tensor output = new_result(input, call.output_sizes(), wants_channels_last(input));
    if (output.numel() == 0) return output;
    const RoiOperands operands = operands_of(call);
    with_accumulator(input.scalar_type(), [&]<class T>(T*) {
      call.psroi ? psroi_pool_forward<T>(operands, view(output))
                 : roi_pool_forward<T>(operands, view(output));
    });
    return output;
  }

  static RoiGradients backward(const RoiPoolCall& call, const Tensor& grad_output,
                               const RoiNeeds& needs) {
    RoiGradients result{.offset = new_gradient(needs.offset, call.offset, grad_output),
                        .mask = new_gradient(needs.mask, call.mask, grad_output)};
    RoiGrads grads{.offset = gradient_view(result.offset), .mask = gradient_view(result.mask)};
    bool any = grads.offset || grads.mask;
    for (size_t i = 0; i < call.inputs.size(); ++i) {
      result.inputs.push_back(new_gradient(needs.inputs[i], call.inputs[i], grad_output));
      grads.inputs.push_back(gradient_view(result.inputs[i]));
      any = any || grads.inputs[i];
    }
    if (any) {
      const RoiOperands operands = operands_of(call);
      with_accumulator(call.inputs[0].scalar_type(), [&]<class T>(T*) {
        call.psroi ? psroi_pool_backward<T>(operands, view(grad_output), grads)
                   : roi_pool_backward<T>(operands, view(grad_output), grads);
      });
    }
    return result;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CPU, m) { RoiPoolOps<RoiPasses>::implement(m); }

}  // namespace dcnv2::cpu
