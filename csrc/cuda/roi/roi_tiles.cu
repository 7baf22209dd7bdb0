// SPDX-License-Identifier: BSD-3-Clause
// The weight of a pixel in a bin is the product of one factor for each axis, so for each bin that
// touches its tile a block computes one factor for each row and one for each column.
#include "cuda/roi/roi_tiles.cuh"

#include "cuda/roi/roi_bin_table.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Tile

constexpr int kTile = 8;  // pixels a side; a warp has a row of them
constexpr int kThreads = 32 * kTile;
constexpr int kLaneChannels = 2;
constexpr int kBlockChannels = 32 * kLaneChannels;  // channels of a block
constexpr int kBatch = 32;  // bins that are added at a time

// The pixels and channels of a block: consecutive output channels of one class that read one group
// of input channels.
template <class Rule>
struct PixelTile : HasLevel<Rule> {
  int image, x, y;  // of the first pixel
  int channels;
  int64_t group, cls, channel;  // the first of the output's

  static __host__ __device__ int64_t down(const RoiLevel& level) {
    return ceil_div(level.height, kTile);
  }
  static __host__ __device__ int64_t across(const RoiLevel& level) {
    return ceil_div(level.width, kTile);
  }
  static __host__ __device__ int64_t count(const RoiPoolGeometry& g, int level) {
    return across(g.level[level]) * down(g.level[level]) * g.batch * g.group_size * g.group_size *
           g.classes * ceil_div(g.out_channels / g.classes, kBlockChannels);
  }
  static int64_t count(const RoiPoolGeometry& g) {
    int64_t tiles = 0;
    for (int level = 0; level < g.levels; ++level) tiles += count(g, level);
    return tiles;
  }

  // Consecutive blocks have the same channels, so that these stay in the cache.
  __device__ PixelTile(const RoiPoolGeometry& g, int64_t index) {
    auto next = [&](int64_t sizes) {
      const int64_t digit = index % sizes;
      index /= sizes;
      return digit;
    };
    if constexpr (Rule::kMultiscale) {
      int& level = this->level;
      for (; level + 1 < g.levels && index >= count(g, level); ++level) index -= count(g, level);
    }
    const RoiLevel& map = g.level[this->level];
    const int64_t share = g.out_channels / g.classes;
    x = int(next(across(map))) * kTile;
    y = int(next(down(map))) * kTile;
    image = int(next(g.batch));
    group = Rule::kPsroi ? next(g.group_size * g.group_size) : 0;
    cls = Rule::kPsroi ? next(g.classes) : 0;
    channel = cls * share + index * kBlockChannels;
    channels = int(min(share - index * kBlockChannels, int64_t(kBlockChannels)));
  }
  __device__ bool meets(const Box& box) const {
    return box.low_y < y + kTile && box.high_y >= y && box.low_x < x + kTile && box.high_x >= x;
  }
  __device__ bool reads(const RoiPoolGeometry& g, int64_t bin) const {
    if (!Rule::kPsroi || g.group_size == 1) return true;
    return bin_channel<Rule>(g, 0, bin / g.pooled_w, bin % g.pooled_w) == group;
  }
};

// ---- Search

// Lists the values of the threads that keep theirs, in thread order; returns their number.
__device__ int keep(bool kept, int64_t value, int64_t (&list)[kThreads]) {
  __shared__ int counts[kTile];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned lanes = __ballot_sync(0xffffffffu, kept);
  if (lane == 0) counts[warp] = __popc(lanes);
  __syncthreads();
  int before = 0, total = 0;
  for (int i = 0; i < kTile; ++i) {
    before += i < warp ? counts[i] : 0;
    total += counts[i];
  }
  if (kept) list[before + __popc(lanes & ((1u << lane) - 1))] = value;
  __syncthreads();
  return total;
}

// ---- Batch of bins

// The sum of the weights of pixel `at` over a bin's samples, along one axis.
template <class Acc, class Rule>
__device__ Acc axis_weight(const BinAxis<Acc>& axis, int64_t at, int64_t size) {
  // A sample that contributes is at most one pixel away; the margin is for rounding.
  const Acc reach = Acc(1.25);
  const Acc one = (Acc(at) - reach - axis.first) / axis.step;
  const Acc other = (Acc(at) + reach - axis.first) / axis.step;
  const Acc most = Acc(axis.count - 1);
  const auto begin =
      static_cast<int>(fmin(fmax(floor_of(fmin(one, other)), Acc(0)), most + Acc(1)));
  const auto last = static_cast<int>(fmax(fmin(ceil_of(fmax(one, other)), most), Acc(-1)));
  Acc sum = 0;
#pragma unroll 1  // few iterations; unrolled, it takes registers from the sums
  for (int i = begin; i <= last; ++i) {
    const AxisSample<Acc> s = RoiBin<Acc, Rule>::sample(axis, i, size);
    if (!s.counts || s.frac != s.frac) continue;
    if (s.low == at) sum += Acc(1) - s.frac;
    if (s.high == at) sum += s.frac;
  }
  return sum;
}

// A few bins that touch the tile.
template <class Acc>
struct Batch {
  Acc grads[kBatch][kBlockChannels], scale[kBatch];
  alignas(16) Acc across[kBatch][kTile];  // weights of the columns
  Acc down[kTile][kBatch];  // weights of the rows, 0 for missing bins

  template <class T, class Rule>
  __device__ void load(const RoiPoolArgs& a, const PixelTile<Rule>& tile, const TableBin<Acc>* axes,
                       const int64_t* rows, int count) {
    const RoiPoolGeometry& g = a.g;
    const int64_t height = g.level[tile.level].height, width = g.level[tile.level].width;
    const T* grad_output = static_cast<const T*>(a.grad_output) + tile.channel;
#pragma unroll 1  // or the sums lack registers
    for (int i = threadIdx.x; i < count * kBlockChannels; i += kThreads) {
      const int bin = i / kBlockChannels, c = i % kBlockChannels;
      const T* grad = grad_output + rows[bin] * g.out_channels + c;
      grads[bin][c] = c < tile.channels ? widen(*grad) : Acc(0);
    }
    for (int i = threadIdx.x; i < kBatch * kTile; i += kThreads) {
      const int bin = i / kTile, line = i % kTile;
      down[line][bin] = 0;
      if (bin >= count) continue;
      const TableBin<Acc>& of = axes[rows[bin]];
      if (line == 0) scale[bin] = of.scale;
      down[line][bin] = axis_weight<Acc, Rule>(of.y, tile.y + line, height);
      across[bin][line] = axis_weight<Acc, Rule>(of.x, tile.x + line, width);
    }
  }

  // Adds the bins, in order, to the thread's channels of its warp's row of pixels.
  __device__ void add_to(Acc (&sum)[kTile][kLaneChannels]) const {
    const int row = threadIdx.x / 32, lane = threadIdx.x % 32;
    unsigned left = __ballot_sync(0xffffffffu, down[row][lane] != Acc(0));
    for (; left != 0; left &= left - 1) {
      const int bin = __ffs(left) - 1;
      const Acc share = down[row][bin] * scale[bin];
      Acc grad[kLaneChannels];
      for (int k = 0; k < kLaneChannels; ++k) grad[k] = share * grads[bin][32 * k + lane];
#pragma unroll
      for (int x = 0; x < kTile; ++x) {
        const Acc weight = across[bin][x];
        if (weight == Acc(0)) continue;  // a non-finite gradient must not reach other pixels
        for (int k = 0; k < kLaneChannels; ++k) sum[x][k] += grad[k] * weight;
      }
    }
  }
};
static_assert(kBatch == 32, "a lane tests one bin");

// ---- Kernel

template <class T, class Rule, class Acc>
__device__ void store(const RoiPoolArgs& a, const PixelTile<Rule>& tile,
                      const Acc (&sum)[kTile][kLaneChannels]) {
  const RoiPoolGeometry& g = a.g;
  const int64_t y = tile.y + threadIdx.x / 32;
  const int64_t groups = Rule::kPsroi ? g.group_size * g.group_size : 1;
  const int64_t height = g.level[tile.level].height, width = g.level[tile.level].width;
  if (y >= height) return;
  T* to = static_cast<T*>(a.grad_input[tile.level]) + tile.channel * groups + tile.group +
          ((tile.image * height + y) * width + tile.x) * g.channels;
#pragma unroll
  for (int x = 0; x < kTile; ++x) {
    for (int k = 0; k < kLaneChannels; ++k) {
      const int c = 32 * k + threadIdx.x % 32;
      if (tile.x + x < width && c < tile.channels) {
        to[x * g.channels + c * groups] = narrow<T>(sum[x][k]);
      }
    }
  }
}

template <class T, class Rule, class Acc = accumulator_t<T>>
__device__ void sum_tile(const RoiPoolArgs& a, const BinTable<Acc>& table,
                         const PixelTile<Rule>& tile) {
  __shared__ int64_t nearby[kThreads], rows[kThreads];  // rois, and rows of grad_output
  __shared__ Batch<Acc> batch;
  const RoiPoolGeometry& g = a.g;
  const int64_t bins = g.pooled_h * g.pooled_w, of_class = tile.cls * g.rois * bins;
  Acc sum[kTile][kLaneChannels] = {};
  for (int64_t first = 0; first < g.rois; first += kThreads) {
    const int64_t r = first + threadIdx.x;
    auto touches = [&](const RoiBox& roi) {
      const bool on_map = !Rule::kMultiscale || roi.level == tile.level;
      return on_map && roi.image == tile.image && tile.meets(roi.box);
    };
    const int found = keep(r < g.rois && touches(table.rois[r]), r, nearby);
    // The bins of the rois found, one for each thread.
    for (int64_t tested = threadIdx.x; tested - threadIdx.x < found * bins; tested += kThreads) {
      const int64_t which = tested / bins, bin = tested % bins;
      const int64_t row = which < found ? nearby[which] * bins + bin : -1;
      const bool kept = row >= 0 && tile.reads(g, bin) && tile.meets(table.boxes[of_class + row]);
      const int count = keep(kept, row, rows);
      for (int from = 0; from < count; from += kBatch) {
        const int size = min(kBatch, count - from);
        batch.template load<T, Rule>(a, tile, table.axes + of_class, rows + from, size);
        __syncthreads();
        batch.add_to(sum);
        __syncthreads();
      }
    }
  }
  store<T>(a, tile, sum);
}

template <class T, class Rule>
__global__ void __launch_bounds__(kThreads)
    tiles_kernel(RoiPoolArgs a, BinTable<accumulator_t<T>> table) {
  const PixelTile<Rule> tile(a.g, blockIdx.x);
  if (Rule::kMultiscale && a.grad_input[tile.level] == nullptr) return;
  sum_tile<T, Rule>(a, table, tile);
}

}  // namespace

// ---- Launch

size_t roi_tiles_workspace(const RoiPoolArgs& a) {
  return a.dtype == Dtype::kFloat64 ? BinTable<double>::bytes(a.g) : BinTable<float>::bytes(a.g);
}

void launch_roi_tiles(const RoiPoolArgs& a, void* workspace, cudaStream_t stream) {
  dispatch(a.dtype, [&](auto element) {
    using T = decltype(element);
    using Acc = accumulator_t<T>;
    const BinTable<Acc> table(a.g, workspace);
    dispatch_rule(a, [&](auto rule) {
      using Rule = decltype(rule);
      bins_kernel<Acc, Rule><<<ceil_div(a.g.rois, kThreads / 32), kThreads, 0, stream>>>(a, table);
      check(cudaGetLastError(), "bins of rois");
      tiles_kernel<T, Rule><<<PixelTile<Rule>::count(a.g), kThreads, 0, stream>>>(a, table);
      check(cudaGetLastError(), "tiles of rois");
    });
  });
}

}  // namespace dcnv2::cuda
