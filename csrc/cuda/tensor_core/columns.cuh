// SPDX-License-Identifier: BSD-3-Clause
// Columns are the gradients of the samples, a GEMM of grad_output and the weight. The gradients of
// offset and mask are computed from them in its epilogue. Where deform groups have too few channels
// for fused_grad_input.cuh, columns also go to memory, a few images at a time so that they stay near
// the L2 cache, and gather.cu sums them up to the gradient of the input.
#pragma once

#include "cuda/tensor_core/mma/smem_layout.cuh"
#include "cuda/tensor_core/packed_weight.h"

namespace dcnv2::cuda {

// Up to this many output channels leave room in shared memory for tiles of 128 pixels.
constexpr int kFewOutputs = 256;

// Weight groups whose grad_output a block keeps in shared memory: all of them if columns go to
// memory, else as many as have few outputs.
inline int column_block_groups(const ConvArgs& a) {
  const int groups = int(a.g.groups);
  if (a.grad_input != nullptr) return groups;
  int count = groups;
  while (count > 1 && (groups % count != 0 || count * a.g.group_out() > kFewOutputs)) --count;
  return count;
}
// Blocks that share the channels of a tile of pixels.
inline int column_blocks(const ConvArgs& a) { return int(a.g.groups) / column_block_groups(a); }

// Channels of a tile of columns: two swizzle atoms, or one where a second atom would be padding or
// hold another group's channels.
inline int column_tile(const ConvArgs& a, Path path) {
  constexpr int kOne = kRowElements<__half>;
  if (a.dtype == Dtype::kFloat32) return 2 * kRowElements<float>;
  if (path == Path::kMma) return 2 * kOne;
  if (a.g.groups > 1 && a.g.group_in() % (2 * kOne) != 0) return kOne;
  if (column_block_groups(a) * a.g.group_out() > kFewOutputs) return 2 * kOne;
  const int64_t channels = a.g.deform_channels();
  const bool one = a.g.in_channels <= kOne ||
                   (channels % kOne == 0 && (channels <= 2 * kOne || channels % (2 * kOne) != 0));
  return one ? kOne : 2 * kOne;
}

// Whether no tile has channels of two deform groups, so that the lanes of a row share a sample.
inline bool one_group_per_tile(const ConvArgs& a, Path path) {
  return a.g.deform_groups == 1 || a.g.deform_channels() % column_tile(a, path) == 0;
}

// 16-byte vectors of a deform group.
inline int64_t deform_vecs(const ConvArgs& a) {
  return a.g.deform_channels() * int64_t(element_size(a.dtype)) / kVec16Bytes;
}

// Columns in memory are [pixels, taps, deform_groups]. Each entry is the gradients of a sample's
// channels, then the four modulated weights of its corners, which are read with them.
struct ColumnSizes {
  int group, row;  // bytes of a deform group, and of a pixel's tap

  explicit ColumnSizes(const ConvArgs& a)
      : group(
            int(a.g.deform_channels() * int64_t(element_size(a.dtype)) + int64_t(sizeof(float4)))),
        row(group * int(a.g.deform_groups)) {}
};

// The packed weight for launch_columns.
PackedWeight columns_weight(const ConvArgs& a, Path path);

// A range of images.
struct ImageRange {
  int64_t first, count;
};

// Whether launch_columns supports the problem; it stores columns if grad_input is requested.
bool columns_fit(const ConvArgs& a, Path path);

// Computes the columns of a range of images and writes the requested ones of grad_offset and
// grad_mask, and the columns if `columns` is not null. weight: packed by columns_weight(a, path).
// With several column_blocks(a), a's grad_offset and grad_mask are the partial sums of all blocks.
void launch_columns(const ConvArgs& a, const ImageRange& images, Path path,
                    const PackedWeight& packed, const void* weight, char* columns,
                    cudaStream_t stream);

// The launch of launch_columns by one instruction (mma/instruction.h), and the stages of the weight
// that its shared memory has room for beside `grad_tiles` tiles of grad_output.
template <class Instruction>
void launch_fused_columns(const ConvArgs& a, const ImageRange& images, Path path,
                          const PackedWeight& packed, const void* weight, char* columns,
                          cudaStream_t stream);
template <class Instruction>
int column_stages(const ConvArgs& a, Path path, int grad_tiles);

}  // namespace dcnv2::cuda
