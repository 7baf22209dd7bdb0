// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/tensor_core/fused_grad_weight.cuh"
#include "cuda/tensor_core/mma/wgmma_tf32.cuh"

namespace dcnv2::cuda {

template void launch_fused_grad_weight<ByWgmmaTf32>(const ConvArgs&, const SplitKPlan&, bool, void*,
                                                    cudaStream_t);

}  // namespace dcnv2::cuda
