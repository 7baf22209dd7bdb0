// SPDX-License-Identifier: BSD-3-Clause
// The weight, packed for the fused kernels: for every step (K tile, tap) a tile of padded columns x
// K tile, in the layout of smem_layout.cuh with columns in the order of column_place(), so that the
// stage of a block is one contiguous copy.
#pragma once

#include "cuda/common/common.cuh"
#include "cuda/tensor_core/packed_weight.h"

namespace dcnv2::cuda {

PackedWeight forward_weight(const ConvArgs& a, int tile_cols, OperandForm form);
PackedWeight backward_weight(const ConvArgs& a, int tile_cols, OperandForm form);
// Bytes of the packed weight and of the zeros behind it.
inline size_t packed_weight_bytes(const ConvArgs& a, const PackedWeight& packed) {
  return (packed.count() + a.g.in_channels) * element_size(a.dtype);
}
// Packs packed.count() elements, then in_channels zeros.
WeightPlan plan_weight(const ConvArgs& a, const PackedWeight& packed);

}  // namespace dcnv2::cuda
