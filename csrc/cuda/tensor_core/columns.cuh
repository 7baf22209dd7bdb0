// SPDX-License-Identifier: BSD-3-Clause
// The gradients of offset and mask need the gradients of the samples, the "columns", a matrix product.
// Where deform groups have so few channels that grad_input can't be a product of its own
// (grad_input.cu), it gathers columns from memory: of a few images at a time, so that they stay in the
// L2 cache or near it.
#pragma once

#include "cuda/common/common.cuh"
#include "cuda/tensor_core/pack_weight.cuh"

namespace dcnv2::cuda {

// So many output channels leave room in shared memory for tiles of 128 pixels.
constexpr int kFewOutputs = 256;

// Channels of a tile of columns: two slabs, or one where a deform group has few of them, or a second slab would
// hold another group's.
inline int column_tile(const ConvArgs& a, Path path) {
  constexpr int kOne = kRowElements<__half>;
  if (a.dtype == Dtype::kFloat32) return 2 * kRowElements<float>;
  if (path == Path::kMma || a.g.out_channels > kFewOutputs) return 2 * kOne;
  const int64_t channels = a.g.deform_channels();
  const bool one = a.g.in_channels <= kOne ||
                   (channels % kOne == 0 && (channels <= 2 * kOne || channels % (2 * kOne) != 0));
  return one ? kOne : 2 * kOne;
}

// Columns in memory are [pixels, taps, deform_groups], each a sample: its channels' gradients, then the four
// weights with which they count at its corners, modulation included, which are read with them.
struct ColumnSizes {
  int group, row;  // bytes of a deform group, and of a pixel's tap

  explicit ColumnSizes(const ConvArgs& a)
      : group(
            int(a.g.deform_channels() * int64_t(element_size(a.dtype)) + int64_t(sizeof(float4)))),
        row(group * int(a.g.deform_groups)) {}
};

// The weight as launch_columns wants it.
PackedWeight columns_weight(const ConvArgs& a, Path path);

// A run of images.
struct ImageRange {
  int64_t first, count;
};

// Whether launch_columns takes the problem: with columns in memory if there is a place for grad_input.
bool columns_fit(const ConvArgs& a, Path path);

// Takes the columns of a run, writes its grad_offset and grad_mask where they are asked for, and the
// columns themselves where `columns` is not null. `packed_weight`: by columns_weight(a, path).
void launch_columns(const ConvArgs& a, const ImageRange& images, Path path,
                    const void* packed_weight, char* columns, cudaStream_t stream);

}  // namespace dcnv2::cuda
