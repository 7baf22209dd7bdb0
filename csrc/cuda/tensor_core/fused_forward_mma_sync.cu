// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/tensor_core/fused_forward.cuh"
#include "cuda/tensor_core/mma/mma_sync.cuh"

namespace dcnv2::cuda {

template void launch_fused_forward<ByMmaSync>(const ConvArgs&, const PackedWeight&, const void*,
                                              bool, cudaStream_t);

}  // namespace dcnv2::cuda
