// SPDX-License-Identifier: BSD-3-Clause
// Sizes of the packed weight, for the dispatch and the kernels.
#pragma once

#include <cstdint>

#include "geometry.h"

namespace dcnv2::cuda {

constexpr int kRowBytes = 128;  // of a row of an operand tile: one K tile

// Form of an operand: the number of splits (3xTF32 has a high and a low one), and whether they are
// rounded to what the tensor cores read.
struct OperandForm {
  int splits = 1;
  bool rounded = false;

  bool operator==(const OperandForm&) const = default;
};

// Columns are output channels and the depth is input channels (forward), or the other way round
// (gradients of the samples). Sizes are those of one weight group.
struct PackedWeight {
  int groups, cols, depth, taps;
  int tile_cols;  // columns of a tile, whose splits are adjacent
  int padded_cols;  // a multiple of tile_cols
  int k_tile_size, k_tiles;  // elements of depth a step; how many of those
  bool cols_are_out;
  OperandForm form;

  // Whether a weight packed for these sizes serves a kernel with those of `other`. Only tiles of
  // several splits depend on the width of a tile.
  bool serves(const PackedWeight& other) const {
    PackedWeight same = other;
    if (form.splits == 1) same.tile_cols = tile_cols;
    return *this == same;
  }
  bool operator==(const PackedWeight&) const = default;

  DCNV2_HD int steps() const { return k_tiles * taps; }
  DCNV2_HD int64_t count() const {
    return int64_t(groups) * steps() * padded_cols * k_tile_size * form.splits;
  }
  // Bytes of a step, and byte offset of the tile that begins at column `col` of a step (k_tile *
  // taps + tap).
  DCNV2_HD int step_bytes() const { return padded_cols * kRowBytes * form.splits; }
  DCNV2_HD int64_t tile(int group, int step, int col) const {
    return (int64_t(group) * steps() + step) * step_bytes() + col * kRowBytes * form.splits;
  }
};

}  // namespace dcnv2::cuda
