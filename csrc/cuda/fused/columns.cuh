// SPDX-License-Identifier: BSD-3-Clause
// The gradients of offset and mask need the gradients of the samples, the "columns", a matrix product.
// Where deform groups have so few channels that grad_input can't be a product of its own
// (grad_input.cu), it gathers columns from memory: of a few images at a time, so that they stay in the
// L2 cache or near it.
#pragma once

#include "../common.cuh"
#include "pack_weight.cuh"

namespace dcnv2::cuda {

// Channels of a tile of columns: two slabs.
inline int column_tile(Dtype dtype) { return dtype == Dtype::kFloat32 ? 64 : 128; }

// A run of images.
struct Run {
  int64_t first, images;
};

bool columns_fit(const ConvArgs& a, Path path);

// Takes the columns of a run, writes its grad_offset and grad_mask where they are asked for, and the
// columns themselves, [images * out_height * out_width, taps, in_channels], where `columns` is not
// null. `packed_weight`: by backward_weight(a, column_tile(a.dtype)).
void launch_columns(const ConvArgs& a, const Run& run, Path path, const void* packed_weight,
                    void* columns, cudaStream_t stream);

}  // namespace dcnv2::cuda
