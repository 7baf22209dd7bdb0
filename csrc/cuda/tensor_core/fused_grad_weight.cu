// SPDX-License-Identifier: BSD-3-Clause
// The plan of the gradient of the weight, and the sum of its splits. The kernel is in
// fused_grad_weight.cuh.
#include "cuda/common/store_weight.cuh"
#include "cuda/tensor_core/fused_kernels.h"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

// ---- Splits

SplitKPlan::SplitKPlan(const ConvArgs& a, Path path) {
  const ConvGeometry& g = a.g;
  channel_tile = a.dtype == Dtype::kFloat32 ? kRowElements<float> : kRowElements<__half>;
  channel_tiles = int(ceil_div(g.group_in(), channel_tile));
  outputs = tile_cols(a, path, g.group_out(), rows_share_addresses(g, channel_tile));
  // The tiles of dispatch_grad_weight_tile
  samples = outputs == 256 || uses_wgmma_tf32(a, path) ? 64 : 128;
  sample_tiles = int(ceil_div(g.taps() * channel_tiles, samples / channel_tile));
  output_tiles = int(ceil_div(g.group_out(), outputs));
  tiles = sample_tiles * output_tiles * int(g.groups);
  choose_splits(a);
}

// Chooses the number of splits that keeps most multiprocessors busy, with all full waves of tiles
// unsplit or none. kMultiprocessors is that of an H100 on every chip: the splits decide the order
// of the sums, so a number that followed the chip would give other bits on each.
void SplitKPlan::choose_splits(const ConvArgs& a) {
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

namespace {

// ---- Sums

// The partial sums of an element of grad_weight, by the blocks of its tile.
struct TileSums {
  SplitKPlan plan;
  const float* partial;  // [blocks, samples of a tile, output channels of a tile]
  int taps, depth;

  __device__ PartialSums<float> operator()(int group, int row, int o) const {
    const int tap = row / depth, c = row % depth, pair = c / plan.channel_tile * taps + tap;
    const int pairs = plan.samples / plan.channel_tile;
    const int sample = pair % pairs * plan.channel_tile + c % plan.channel_tile;
    const int tile =
        (group * plan.sample_tiles + pair / pairs) * plan.output_tiles + o / plan.outputs;
    const float* at =
        partial + (int64_t(tile) * plan.samples + sample) * plan.outputs + o % plan.outputs;
    return {.first = at,
            .step = int64_t(plan.split_tiles()) * plan.samples * plan.outputs,
            .count = tile < plan.unsplit_tiles ? 1 : plan.splits};
  }
};

void store_sums(const ConvArgs& a, const SplitKPlan& plan, const void* workspace,
                cudaStream_t stream) {
  const TileSums sums{.plan = plan,
                      .partial = static_cast<const float*>(workspace),
                      .taps = int(a.g.taps()),
                      .depth = int(a.g.group_in())};
  dispatch_vec16(a.dtype,
                 [&](auto element) { launch_store_weight<decltype(element)>(a, sums, stream); });
}

}  // namespace

// ---- Plan

PassPlan plan_fused_grad_weight(const ConvArgs& a, Path path) {
  const SplitKPlan split(a, path);
  return {.pass = "grad_weight",
          .path = path,
          .tile_cols = split.outputs,
          .workspace = split.partial_bytes() + a.g.in_channels * element_size(a.dtype),
          .launch = [a, path, split](const PassMemory& memory, cudaStream_t stream) {
            const bool share = rows_share_addresses(a.g, split.channel_tile);
            with_instruction(a, path, [&](auto by) {
              launch_fused_grad_weight<decltype(by)>(a, split, share, memory.workspace, stream);
            });
            store_sums(a, split, memory.workspace, stream);
          }};
}

}  // namespace dcnv2::cuda
