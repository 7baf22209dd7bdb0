// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/tensor_core/fused_grad_input.cuh"
#include "cuda/tensor_core/mma/wgmma_tf32.cuh"

namespace dcnv2::cuda {

template void launch_fused_grad_input<ByWgmmaTf32>(const ConvArgs&, const PackedWeight&,
                                                   const void*, const SampleLists<float>&,
                                                   const OversizedCells&, const char*, void*,
                                                   cudaStream_t);

}  // namespace dcnv2::cuda
