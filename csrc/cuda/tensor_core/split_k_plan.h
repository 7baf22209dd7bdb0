// SPDX-License-Identifier: BSD-3-Clause
// How grad_weight is cut into tiles and, along its depth (the output pixels), into splits.
#pragma once

#include "cuda/dispatch/conv_args.h"

namespace dcnv2::cuda {

constexpr int kSplitPixels = 64;  // splits begin at multiples of it

// A tile is some samples (pairs of a tap and a channel tile) times some output channels. The first
// `unsplit_tiles` have one block each; every other tile has `splits` blocks, each with its share of
// the pixels, whose sums store_weight adds in order. The plan depends on the shape only.
struct SplitKPlan {
  int samples, outputs;  // rows of samples and output channels of a tile
  int channel_tile, channel_tiles;  // channels of a tile (128 bytes), tiles of a weight group
  int sample_tiles, output_tiles, tiles;
  int unsplit_tiles = 0, splits = 1;

  SplitKPlan(const ConvArgs& a, Path path);
  DCNV2_HD int split_tiles() const { return tiles - unsplit_tiles; }
  int blocks() const { return unsplit_tiles + split_tiles() * splits; }
  int64_t partial_bytes() const { return int64_t(blocks()) * samples * outputs * 4; }

 private:
  void choose_splits(const ConvArgs& a);
};

}  // namespace dcnv2::cuda
