// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/tensor_core/fused_grad_weight.cuh"
#include "cuda/tensor_core/mma/wgmma.cuh"

namespace dcnv2::cuda {

template void launch_fused_grad_weight<ByWgmma>(const ConvArgs&, const SplitKPlan&, bool, void*,
                                                cudaStream_t);

}  // namespace dcnv2::cuda
