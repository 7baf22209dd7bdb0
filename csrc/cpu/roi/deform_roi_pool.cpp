// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/roi/roi_pool_passes.h"

namespace dcnv2::cpu {

template <class T>
void roi_pool_forward(const RoiOperands& operands, const View& output) {
  pool_forward<AlignRule, T>(operands, output);
}

template <class T>
void roi_pool_backward(const RoiOperands& operands, const View& grad_output,
                       const RoiGrads& grads) {
  pool_backward<AlignRule, T>(operands, grad_output, grads);
}

template void roi_pool_forward<float>(const RoiOperands&, const View&);
template void roi_pool_forward<double>(const RoiOperands&, const View&);
template void roi_pool_backward<float>(const RoiOperands&, const View&, const RoiGrads&);
template void roi_pool_backward<double>(const RoiOperands&, const View&, const RoiGrads&);

}  // namespace dcnv2::cpu
