// SPDX-License-Identifier: BSD-3-Clause
// The tensor-core kernels compute narrow weight groups several at a time: as one group, whose weight
// is block-diagonal. Sampling takes the time, so that the products with zeros cost nothing.
#pragma once

#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

constexpr int64_t kMaxMergedChannels =
    1024;  // a larger block-diagonal weight would be mostly zeros

// Channels that merged groups should have, as measured: more of them repeat less work for each group,
// fewer keep more blocks busy. It is a multiple of a tile of columns (tensor_core/columns.cuh).
inline int64_t merged_tile(const ConvArgs& a, Path path) {
  constexpr int64_t kNarrow = 64, kWide = 128, kPixels = 128, kEnoughTiles = 4 * 132;
  if (a.dtype == Dtype::kFloat32) return kNarrow;
  if (path == Path::kMma) return kWide;
  const bool forward = a.grad_output == nullptr;
  const int64_t tiles = (a.g.out_pixels() + kPixels - 1) / kPixels * (a.g.in_channels / kWide);
  const bool narrow = a.g.deform_channels() % kWide != 0 || (forward && tiles < kEnoughTiles);
  return narrow ? kNarrow : kWide;
}

// Whether tiles of input channels hold channels of one weight group, and no group of either kind is
// split by one of the other.
inline bool groups_fit_tiles(const ConvGeometry& g, int64_t tile) {
  const int64_t channels = g.group_in(), deform_channels = g.deform_channels();
  return channels % tile == 0 && g.group_out() % 8 == 0 &&
         (deform_channels % channels == 0 || channels % deform_channels == 0);
}

// The same convolution with as few groups merged as fill the tiles, or with all of them merged.
inline ConvArgs merge_groups(const ConvArgs& a, Path path) {
  const int64_t groups = a.g.groups, tile = merged_tile(a, path);
  for (int64_t merged = 1; merged <= groups; ++merged) {
    if (groups % merged != 0) continue;
    ConvArgs wider = a;
    wider.g.groups = groups / merged;
    wider.merged_groups = merged;
    if (wider.g.group_in() > kMaxMergedChannels) break;
    if (groups_fit_tiles(wider.g, tile) || merged == groups) return wider;
  }
  return a;
}

// The convolution that merge_groups was given.
inline ConvArgs unmerge_groups(ConvArgs a) {
  a.g.groups *= a.merged_groups;
  a.merged_groups = 1;
  return a;
}

}  // namespace dcnv2::cuda
