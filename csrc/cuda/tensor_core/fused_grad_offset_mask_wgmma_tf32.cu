// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/tensor_core/fused_grad_offset_mask.cuh"
#include "cuda/tensor_core/mma/wgmma_tf32.cuh"

namespace dcnv2::cuda {

template int column_stages<ByWgmmaTf32>(const ConvArgs&, Path, int);
template void launch_fused_columns<ByWgmmaTf32>(const ConvArgs&, const ImageRange&, Path,
                                                const PackedWeight&, const void*, char*,
                                                cudaStream_t);

}  // namespace dcnv2::cuda
