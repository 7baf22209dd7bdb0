// SPDX-License-Identifier: BSD-3-Clause
// The passes of both deformable RoI poolings behind their operators, on the CPU.
#include "roi_ops.h"

#include "cpu/roi/roi_pool.h"
#include "cpu/tensor/operands.h"

namespace dcnv2::cpu {
namespace {

RoiOperands operands_of(const RoiPoolCall& call) {
  return {call.g, view(call.input), view(call.rois), view(call.offset), view(call.mask)};
}

struct RoiPasses {
  static Tensor forward(const RoiPoolCall& call) {
    const Tensor output =
        new_result(call.input, call.output_sizes(), wants_channels_last(call.input));
    if (output.numel() == 0) return output;
    const RoiOperands operands = operands_of(call);
    with_accumulator(call.input.scalar_type(), [&]<class T>(T*) {
      call.psroi ? psroi_pool_forward<T>(operands, view(output))
                 : roi_pool_forward<T>(operands, view(output));
    });
    return output;
  }

  static RoiGradients backward(const RoiPoolCall& call, const Tensor& grad_output,
                               const std::vector<bool>& needs) {
    auto gradient = [&](RoiNeed need, const OptionalTensor& operand) {
      return new_gradient(needs[size_t(need)], operand, grad_output);
    };
    const Tensor grad_input = gradient(RoiNeed::kInput, call.input);
    const Tensor grad_offset = gradient(RoiNeed::kOffset, call.offset);
    const Tensor grad_mask = gradient(RoiNeed::kMask, call.mask);
    const RoiGrads grads{gradient_view(grad_input), gradient_view(grad_offset),
                         gradient_view(grad_mask)};
    if (grads.input || grads.offset || grads.mask) {
      const RoiOperands operands = operands_of(call);
      with_accumulator(call.input.scalar_type(), [&]<class T>(T*) {
        call.psroi ? psroi_pool_backward<T>(operands, view(grad_output), grads)
                   : roi_pool_backward<T>(operands, view(grad_output), grads);
      });
    }
    return {grad_input, grad_offset, grad_mask};
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dcnv2, CPU, m) { RoiPoolOps<RoiPasses>::implement(m); }

}  // namespace dcnv2::cpu
