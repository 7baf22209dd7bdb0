// SPDX-License-Identifier: BSD-3-Clause
// The weight, packed for the fused kernels: for every step (K tile, tap) a tile of padded columns x
// K tile, in the layout of smem_layout.cuh with columns in the order of column_place(), so that the
// stage of a block is one contiguous copy.
#pragma once

#include "cuda/common/common.cuh"
#include "cuda/tensor_core/packed_weight.h"

namespace dcnv2::cuda {

constexpr size_t kFlagBytes = 16;  // of ConvArgs::nonfinite, a whole vector

PackedWeight forward_weight(const ConvArgs& a, int tile_cols, OperandForm form);
PackedWeight backward_weight(const ConvArgs& a, int tile_cols, OperandForm form);
// Bytes of the packed weight, of the zeros behind it, and with merged groups of the flag behind those.
inline size_t packed_weight_bytes(const ConvArgs& a, const PackedWeight& packed) {
  const size_t flag = a.merged_groups > 1 ? kFlagBytes : 0;
  return (packed.count() + a.g.in_channels) * element_size(a.dtype) + flag;
}
// Packs packed.count() elements, then in_channels zeros, and clears the flag.
WeightPlan plan_weight(const ConvArgs& a, const PackedWeight& packed);
// The arguments with their flag, behind the packed weight.
inline ConvArgs with_flag(ConvArgs a, const PackedWeight& packed, void* weight) {
  if (a.merged_groups > 1) {
    a.nonfinite = reinterpret_cast<uint32_t*>(static_cast<char*>(weight) +
                                              packed_weight_bytes(a, packed) - kFlagBytes);
  }
  return a;
}

}  // namespace dcnv2::cuda
