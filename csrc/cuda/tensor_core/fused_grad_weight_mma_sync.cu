// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/tensor_core/fused_grad_weight.cuh"
#include "cuda/tensor_core/mma/mma_sync.cuh"

namespace dcnv2::cuda {

template void launch_fused_grad_weight<ByMmaSync>(const ConvArgs&, const SplitKPlan&, bool, void*,
                                                  cudaStream_t);

}  // namespace dcnv2::cuda
