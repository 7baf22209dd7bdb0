// SPDX-License-Identifier: BSD-3-Clause
// The plan of the forward. The kernel is in fused_forward.cuh.
#include "cuda/dispatch/merge_groups.h"
#include "cuda/simt/simt.cuh"
#include "cuda/tensor_core/fused_kernels.h"
#include "cuda/tensor_core/mma/smem_layout.cuh"
#include "cuda/tensor_core/pack_weight.cuh"

namespace dcnv2::cuda {

namespace {

bool share_addresses(const ConvArgs& a) {
  return rows_share_addresses(
      a.g, a.dtype == Dtype::kFloat32 ? kRowElements<float> : kRowElements<__half>);
}

}  // namespace

PassPlan plan_fused_forward(const ConvArgs& a, Path path) {
  const int cols = tile_cols(a, path, a.g.group_out(), share_addresses(a));
  const PackedWeight packed = forward_weight(a, cols, operand_form(a, path));
  return {.pass = "forward",
          .path = path,
          .tile_cols = cols,
          .weight = plan_weight(a, packed),
          .launch = [a, path, packed](const PassMemory& memory, cudaStream_t stream) {
            const ConvArgs flagged = with_flag(a, packed, memory.weight);
            with_instruction(a, path, [&](auto by) {
              launch_fused_forward<decltype(by)>(flagged, packed, memory.weight, share_addresses(a),
                                                 stream);
            });
            if (a.merged_groups > 1) launch_simt_forward(unmerge_groups(flagged), stream);
          }};
}

}  // namespace dcnv2::cuda
