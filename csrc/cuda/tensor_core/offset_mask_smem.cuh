// SPDX-License-Identifier: BSD-3-Clause
// Arguments, shared memory and tiles of the kernel in fused_grad_offset_mask.cuh.
#pragma once

#include "cuda/tensor_core/columns.cuh"
#include "cuda/tensor_core/mma/pipeline.cuh"
#include "cuda/tensor_core/sample_address.cuh"

namespace dcnv2::cuda {

struct GradOffsetArgs {
  ConvArgs conv;
  PackedWeight packed;
  const char* weight;   // packed
  const char* zeros;    // [in_channels]
  char* columns;        // in the layout of columns.cuh, or null
  int column_bytes;     // of a tap of a pixel
  int first_image;      // of the range that this launch computes
  int pixels;           // of that range
  int k_tiles;          // of the output channels of a weight group
  int tiles_per_group;  // channel tiles of a deform group; of all groups where they share tiles
  int tiles_per_weight_group;  // channel tiles
  // A block computes the channels of so many weight groups, whose grad_output it keeps in shared
  // memory: those from blockIdx.y * block_groups on.
  int block_groups;
  // With several such blocks for a pixel, grad_offset and grad_mask are partial sums, [blocks] times
  // the elements of either.
  int64_t offset_elements, mask_elements;
  int stages;  // of the weight
  int group_shift;  // log2 of the 16-byte vectors of a deform group, where lanes do not share
  int groups;  // deform groups computed one after the other; 1 where they share tiles
};

// A weight group, counted from the block's first, and a channel tile within it. Without weight groups
// (kGrouped) there is one, with all tiles.
template <bool kGrouped>
struct WeightGroupTile {
  int group = 0, tile = 0;

  __device__ void advance(int tiles_per_weight_group) {
    ++tile;
    if (!kGrouped || tile < tiles_per_weight_group) return;
    tile = 0;
    ++group;
  }
};

// The channel tiles of a deform group that a block computes.
template <bool kGrouped>
struct ChannelTiles {
  int begin, count;
  WeightGroupTile<kGrouped> first;

  __device__ ChannelTiles(const GradOffsetArgs& f, int deform_group)
      : begin(deform_group * f.tiles_per_group), count(f.tiles_per_group) {
    first.tile = begin;
    if constexpr (kGrouped) {
      const int block_tiles = f.block_groups * f.tiles_per_weight_group,
                block_begin = int(blockIdx.y) * block_tiles, end = begin + count;
      begin = max(begin, block_begin);
      count = max(min(end, block_begin + block_tiles) - begin, 0);
      first = {.group = (begin - block_begin) / f.tiles_per_weight_group,
               .tile = (begin - block_begin) % f.tiles_per_weight_group};
    }
  }
};

// The same for the views of the gradients (in elements) and for the columns (in bytes).
template <int kRows, bool kGrouped>
struct RowStarts : SampleStarts<kRows> {
  int64_t grad_offset[kRows], grad_mask[kRows], columns[kRows];

  __device__ void fill(const GradOffsetArgs& f, const RowPixels<kRows>& rows, int thread,
                       int threads) {
    const ConvArgs& a = f.conv;
    for (int row = thread; row < kRows; row += threads) {
      if (!rows.exists(row)) continue;
      const Pixel p = rows.pixel(row);
      const int n = p.n + f.first_image;
      this->put(a, row, {n, p.y, p.x});
      grad_offset[row] = a.grad_offset.index(n, 0, p.y, p.x);
      grad_mask[row] = a.grad_mask.index(n, 0, p.y, p.x);
      if constexpr (kGrouped) {
        grad_offset[row] += blockIdx.y * f.offset_elements;
        grad_mask[row] += blockIdx.y * f.mask_elements;
      }
      const int pixel = (p.n * int(a.g.out_height) + p.y) * int(a.g.out_width) + p.x;
      columns[row] = int64_t(pixel) * f.packed.taps * f.column_bytes;
    }
  }
};

// kHasGroups: there are weight groups. Without them the kernel has no registers to spare for theirs.
template <class Product, bool kShare, bool kHasGroups>
struct OffsetMaskSmem {
  using M = Product;
  using T = typename M::element;
  static constexpr bool kShareAddresses = kShare;  // the lanes of a row have the same sample
  static constexpr bool kGrouped = kHasGroups;
  static constexpr int kRows = M::kTileRows, kCols = M::kTileCols;
  static constexpr int kStages = 8;  // at most
  static constexpr int kAtoms = kCols / kRowElements<T>;

  char column[2][kAtoms * kRows * kRowBytes];  // double-buffered gradients of a tile's samples
  std::conditional_t<kShare, AddressTable<SampleKind::kSlopes, kRows>, RowStarts<kRows, kGrouped>>
      table;
  RowPixels<kRows> rows;
  Barrier full[kStages], empty[kStages];  // of the weight
  Barrier column_full[2], column_empty[2], grad_full;
};

// After that struct: grad_output of the block's pixels, K tile by K tile of one weight group after
// the other, then as many stages as fit, each with the weight of one tap, channel tile and K tile.
template <class M>
constexpr int kGradTileBytes = M::kTileRows * kRowBytes;
template <class M>
constexpr int kStageBytes = M::kSplits * M::kTileCols * kRowBytes;
template <class S>
constexpr int kGradAt = int(ceil_div(sizeof(S), kTileAlignment)) * kTileAlignment;
template <class S>
__device__ __forceinline__ char* grad_tile(S& shared, int atom) {
  return reinterpret_cast<char*>(&shared) + kGradAt<S> + atom * kGradTileBytes<typename S::M>;
}
template <class S>
__device__ __forceinline__ char* weight_stage(S& shared, int grad_tiles, int stage) {
  return grad_tile(shared, grad_tiles) + stage * kStageBytes<typename S::M>;
}
template <class S>
size_t shared_bytes(int grad_tiles, int stages) {
  return kGradAt<S> + grad_tiles * kGradTileBytes<typename S::M> +
         stages * kStageBytes<typename S::M>;
}

// Byte offset of a 16-byte vector of a tile's columns. This swizzle differs from smem_layout.cuh's:
// four neighbouring vectors of two neighbouring rows, which a warp writes or reads at once, lie in
// different banks.
template <int kRows>
__device__ __forceinline__ int column_offset(int row, int vec) {
  return vec / kRowVecs * (kRows * kRowBytes) + row * kRowBytes +
         ((vec % kRowVecs ^ (row << 2 & 4) ^ (row >> 1 & 3)) << 4);
}

// The pixel of a row, with its image counted within the whole batch.
template <int kRows>
__device__ __forceinline__ Pixel batch_pixel(const GradOffsetArgs& f, const RowPixels<kRows>& rows,
                                             int row) {
  Pixel p = rows.pixel(row);
  p.n += f.first_image;
  return p;
}

struct ColumnTile {
  int group;  // deform group, the first where groups share tiles
  int tap;
  int channel;  // the first
  int weight_group;  // from the block's first on
  int index;  // in the block's order
  bool last;  // of its group and tap
};

}  // namespace dcnv2::cuda
