// SPDX-License-Identifier: BSD-3-Clause
// How grad_weight is cut into tiles and, along its depth (the output pixels), into splits.
#pragma once

#include "cuda/tensor_core/bilinear_producer.cuh"
#include "cuda/tensor_core/tile_config.cuh"

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

  SplitKPlan(const ConvArgs& a, Path path) {
    const ConvGeometry& g = a.g;
    channel_tile = a.dtype == Dtype::kFloat32 ? kRowElements<float> : kRowElements<__half>;
    channel_tiles = int(ceil_div(g.group_in(), channel_tile));
    outputs = tile_cols(a, path, g.group_out(), rows_share_addresses(g, channel_tile));
    // The tiles of dispatch_pixel_product
    samples = outputs == 256 || uses_wgmma_tf32(a, path) ? 64 : 128;
    sample_tiles = int(ceil_div(g.taps() * channel_tiles, samples / channel_tile));
    output_tiles = int(ceil_div(g.group_out(), outputs));
    tiles = sample_tiles * output_tiles * int(g.groups);
    choose_splits(a);
  }
  __host__ __device__ int split_tiles() const { return tiles - unsplit_tiles; }
  int blocks() const { return unsplit_tiles + split_tiles() * splits; }
  int64_t partial_bytes() const { return int64_t(blocks()) * samples * outputs * 4; }

 private:
  // Chooses the number of splits that keeps most multiprocessors busy, with all full waves of tiles
  // unsplit or none. kMultiprocessors is that of an H100 on every chip: the splits decide the order
  // of the sums, so a number that followed the chip would give other bits on each.
  void choose_splits(const ConvArgs& a) {
    constexpr int64_t kMaxBytes = int64_t(48) << 20;  // of partial sums
    constexpr int kMultiprocessors = 132, kMinSteps = 8, kMaxSplits = 64;
    constexpr double kWorthwhile = 0.02;  // gain in utilisation that justifies more splits
    const ConvGeometry& g = a.g;
    const int64_t columns = g.out_pixels() * g.taps() * g.in_channels * element_size(a.dtype);
    const int64_t max_bytes = std::min(kMaxBytes, columns / 4);
    const int64_t max_splits =
        std::clamp<int64_t>(ceil_div(g.out_pixels(), kSplitPixels) / kMinSteps, 1, kMaxSplits);
    double best = 0;
    for (int unsplit : {0, tiles / kMultiprocessors * kMultiprocessors}) {
      for (int r = 1; r <= max_splits; ++r) {
        const int64_t rest = int64_t(tiles - unsplit) * r;
        if (r > 1 && (unsplit + rest) * samples * outputs * 4 > max_bytes) break;
        const double waves =
            unsplit / kMultiprocessors + double(ceil_div(rest, kMultiprocessors)) / r;
        const double used = tiles / (waves * kMultiprocessors);
        if (used > best + kWorthwhile) {
          best = used;
          unsplit_tiles = unsplit;
          splits = r;
        }
      }
    }
  }
};

// An element of grad_weight from the partial sums of its blocks, which are added in order.
struct TileSums {
  SplitKPlan plan;
  const float* partial;  // [blocks, samples of a tile, output channels of a tile]
  int taps, depth;

  __device__ float operator()(int group, int row, int o) const {
    const int tap = row / depth, c = row % depth, pair = c / plan.channel_tile * taps + tap;
    const int pairs = plan.samples / plan.channel_tile;
    const int sample = pair % pairs * plan.channel_tile + c % plan.channel_tile;
    const int tile =
        (group * plan.sample_tiles + pair / pairs) * plan.output_tiles + o / plan.outputs;
    const float* at =
        partial + (int64_t(tile) * plan.samples + sample) * plan.outputs + o % plan.outputs;
    float sum = *at;
    if (tile < plan.unsplit_tiles) return sum;
    const int64_t step = int64_t(plan.split_tiles()) * plan.samples * plan.outputs;
#pragma unroll 4
    for (int split = 1; split < plan.splits; ++split) sum += at[split * step];
    return sum;
  }
};

}  // namespace dcnv2::cuda
