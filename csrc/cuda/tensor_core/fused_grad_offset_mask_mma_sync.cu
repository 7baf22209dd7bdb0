// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/tensor_core/fused_grad_offset_mask.cuh"
#include "cuda/tensor_core/mma/mma_sync.cuh"

namespace dcnv2::cuda {

template int column_stages<ByMmaSync>(const ConvArgs&, Path, int);
template void launch_fused_columns<ByMmaSync>(const ConvArgs&, const ImageRange&, Path,
                                              const PackedWeight&, const void*, char*,
                                              cudaStream_t);

}  // namespace dcnv2::cuda
