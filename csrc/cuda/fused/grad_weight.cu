// SPDX-License-Identifier: BSD-3-Clause
// grad_weight as a matrix product over pixels: channels sampled at a tap, times grad_output. Some of a
// block's warps sample, the others multiply. The pixels are cut into runs whose number depends
// on the shape alone, and the runs' sums are added in order.
#include "../common.cuh"
#include "choice.cuh"
#include "ring.cuh"
#include "sampler.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kFillBarrier = 1;
constexpr int kTurns = 4;      // steps whose readings the table holds
constexpr int kRunPixels = 64;  // runs are cut at multiples of it

struct GradWeightArgs {
  ConvArgs conv;
  float* partial;     // [runs, groups, taps * group_in, group_out]
  const char* zeros;  // [in_channels]
  int pixels, runs;
  int slabs;      // of a weight group's channels
  int row_tiles;  // tiles of (tap, slab) pairs
  int col_tiles;  // tiles of a weight group's output channels
};

template <class M>
struct Shared {
  using T = typename M::element;
  static constexpr int kPixels = M::kDepth;  // of a step
  static constexpr int kSlabBytes = kPixels * kRowBytes;
  static constexpr int kRowSlabs = M::kTileRows / kSlab<T>, kColSlabs = M::kTileCols / kSlab<T>;
  static constexpr int kStages = sizeof(T) == 4 ? 2 : 3;

  char a[kStages][kRowSlabs * kSlabBytes];
  char b[kStages][kColSlabs * kSlabBytes];
  // One is read while the other is filled.
  ReadingTable<Want::kWeights, kRowSlabs * kPixels, kTurns> table[2];
  RowPixels<kTurns * kPixels> rows[2];
  Barrier full[kStages], empty[kStages];
};

// What a block computes: some (tap, slab) pairs by some output channels, over a run of pixels.
struct Tile {
  int pair0, col0, group, run;
  int first, steps;  // pixel, steps of pixels
};
// A tap and a slab: the taps of a slab follow one another, so that a block samples the same pixels anew.
struct Pair {
  int tap, slab;
};
__device__ __forceinline__ Pair pair_at(const GradWeightArgs& f, int index) {
  const int taps = int(f.conv.g.taps());
  return {index % taps, index / taps};
}

template <class M>
__device__ __forceinline__ Tile block_tile(const GradWeightArgs& f) {
  int index = blockIdx.x;
  auto take = [&](int count) {
    const int at = index % count;
    index /= count;
    return at;
  };
  Tile t;
  t.col0 = take(f.col_tiles) * M::kTileCols;
  t.pair0 = take(f.row_tiles) * Shared<M>::kRowSlabs;
  t.group = take(int(f.conv.g.groups));
  t.run = index;
  const int64_t all = ceil_div(f.pixels, kRunPixels);
  const int begin = int(all * t.run / f.runs), end = int(all * (t.run + 1) / f.runs);
  t.first = begin * kRunPixels;
  t.steps = (end - begin) * (kRunPixels / M::kDepth);
  return t;
}

// The samples that a thread looks up for the table, a table ahead: asked for while others are taken.
template <class M>
struct Lookups {
  using T = typename M::element;
  static constexpr int kPixels = Shared<M>::kPixels;
  static constexpr int kRows = Shared<M>::kRowSlabs * kPixels;  // samples of a step
  static constexpr int kEach = (kTurns * kRows + M::kFillThreads - 1) / M::kFillThreads;

  const GradWeightArgs& f;
  const Tile& tile;
  const int thread;
  RawSample raw[kEach];

  __device__ Place place(int step0, int entry) const {
    const ConvGeometry& g = f.conv.g;
    const int pixel = tile.first + (step0 + entry / kRows) * kPixels + entry % kPixels;
    const Pair pair = pair_at(f, tile.pair0 + entry % kRows / kPixels);
    const int channel = tile.group * int(g.group_in()) + pair.slab * kSlab<T>;
    return {strip_pixel(pixel, int(g.out_height), int(g.out_width)), pair.tap,
            channel / int(g.deform_channels()),
            entry < kTurns * kRows && pair.slab < f.slabs && pixel < f.pixels};
  }
  __device__ void ask(int step0) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      raw[i] = ask_sample(f.conv, place(step0, thread + i * M::kFillThreads));
    }
  }
  template <class Table>
  __device__ void put(const Source& source, int step0, Table& table) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int entry = thread + i * M::kFillThreads;
      if (entry >= kTurns * kRows) break;
      table.put(entry, take_reading<Want::kWeights>(f.conv, source, place(step0, entry), raw[i]));
    }
  }
};

template <class M, bool kShareReadings>
__device__ void fill(const GradWeightArgs& f, Shared<M>& shared, int thread) {
  using T = typename M::element;
  using S = Shared<M>;
  constexpr int kThreads = M::kFillThreads, kPixels = S::kPixels;
  constexpr int kRowSlabs = S::kRowSlabs, kColSlabs = S::kColSlabs;
  static_assert(kThreads == kPixels * kChunks);
  const ConvArgs& a = f.conv;
  const Source source = make_source<T>(a, f.zeros);
  const Tile tile = block_tile<M>(f);
  const int depth = int(a.g.group_in()), outputs = int(a.g.group_out());
  const int height = int(a.g.out_height), width = int(a.g.out_width);
  const int row = thread / kChunks, chunk = thread % kChunks, slot = chunk_offset(row, chunk);
  const T* grad = static_cast<const T*>(a.grad_output) + tile.group * outputs;

  // This thread's channels and tap in every slab
  int tap[kRowSlabs], channel[kRowSlabs];
  bool wanted[kRowSlabs];
  for (int i = 0; i < kRowSlabs; ++i) {
    const Pair pair = pair_at(f, tile.pair0 + i);
    const int within = pair.slab * kSlab<T> + chunk * kVector<T>;
    tap[i] = pair.tap;
    wanted[i] = within < depth;
    channel[i] = tile.group * depth + within;
  }

  SampleFiller<T, kRowSlabs, S::kSlabBytes, true> filler;
  RingPosition<S::kStages> at;
  Lookups<M> lookups{f, tile, thread};
  if (kShareReadings) lookups.ask(0);
  for (int step0 = 0, side = 0; step0 < tile.steps; step0 += kTurns, side ^= 1) {
    auto& rows = shared.rows[side];
    auto& table = shared.table[side];
    rows.fill(tile.first + step0 * kPixels, f.pixels, height, width, thread, kThreads);
    if (kShareReadings) {
      lookups.put(source, step0, table);
      lookups.ask(step0 + kTurns);
    }
    named_barrier(kFillBarrier, kThreads);
    const int turns = min(kTurns, tile.steps - step0);
    for (int turn = 0; turn < turns; ++turn) {
      const int pixel = turn * kPixels + row;
      const bool exists = rows.exists(pixel);
      const Pixel p = rows.pixel(pixel);
      auto reading = [&](int i) {
        Reading r;
        if constexpr (kShareReadings) {
          r = table.reading(turn, i * kPixels + row);
          if (!wanted[i]) r = {source.zeros, 0, 0, r.weight};
        } else {
          r = load_reading<Want::kWeights>(
              a, source,
              {p, tap[i], channel[i] / int(a.g.deform_channels()), wanted[i] && exists});
        }
        if (wanted[i]) r.at += channel[i] * int(sizeof(T));
        return r;
      };
      const T* grad_row = grad + ((int64_t(p.n) * height + p.y) * width + p.x) * a.g.out_channels;
      filler.step([&](auto& corners, int item) { corners.load(item, 1, reading); },
                  [&]() -> Barrier& {
                    shared.empty[at.stage].wait(at.parity ^ 1);
#pragma unroll
                    for (int j = 0; j < kColSlabs; ++j) {
                      const int o = tile.col0 + j * kSlab<T> + chunk * kVector<T>;
                      const bool there = exists && o < outputs;
                      copy_chunk(shared.b[at.stage] + j * S::kSlabBytes + slot,
                                 grad_row + (there ? o : 0), !there);
                    }
                    return shared.full[at.stage];
                  },
                  shared.a[at.stage] + slot);
      at.advance();
    }
  }
  filler.finish_pending();
}

template <class M>
__device__ void multiply(const GradWeightArgs& f, Shared<M>& shared) {
  using T = typename M::element;
  const Tile tile = block_tile<M>(f);
  const int thread = threadIdx.x, depth = int(f.conv.g.group_in());
  const int outputs = int(f.conv.g.group_out()), taps = int(f.conv.g.taps());
  M product;
  RingPosition<Shared<M>::kStages> at;
  Release<M, Shared<M>::kStages> release{shared.empty};
  for (int step = 0; step < tile.steps; ++step) {
    shared.full[at.stage].wait(at.parity);
    M::see_stores();
    product.multiply_transposed(shared.a[at.stage], shared.b[at.stage], thread);
    release.multiplied(at.stage);
    at.advance();
  }
  release.finish(product);

#pragma unroll
  for (int i = 0; i < M::kThreadRows; ++i) {
    const int row = M::row(thread, i);
    const Pair pair = pair_at(f, tile.pair0 + row / kSlab<T>);
    const int c = pair.slab * kSlab<T> + row % kSlab<T>;
    if (c >= depth) continue;
    float* to = f.partial + ((int64_t(tile.run) * f.conv.g.groups + tile.group) * taps * depth +
                             pair.tap * depth + c) * outputs;
#pragma unroll
    for (int j = 0; j < M::kThreadPairs; ++j) {
      const int o = tile.col0 + M::column(thread) + 8 * j;
      if (o < outputs) store_pair(to + o, product.pair(i, j).x, product.pair(i, j).y);
    }
  }
}

template <class M, bool kShareReadings>
__global__ void __launch_bounds__(M::kThreads + M::kFillThreads, 1)
    grad_weight_kernel(__grid_constant__ const GradWeightArgs f) {
  if constexpr (M::kHere) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<Shared<M>*>(raw);
    init_ring(shared.full, shared.empty, M::kFillThreads / 32, M::kThreads / 32);
    if (threadIdx.x < M::kThreads) {
      M::take_registers();
      multiply<M>(f, shared);
    } else {
      M::give_registers();
      fill<M, kShareReadings>(f, shared, threadIdx.x - M::kThreads);
    }
  }
}

// How a problem is cut into blocks.
struct Cut {
  int cols, slab, row_tiles, col_tiles, runs;

  Cut(const ConvArgs& a, Path path) {
    constexpr int64_t kMostBytes = int64_t(48) << 20;  // of partial sums
    constexpr int kMultiprocessors = 132, kLeastSteps = 8;
    const ConvGeometry& g = a.g;
    const int64_t columns = g.out_pixels() * g.taps() * g.in_channels * element_size(a.dtype);
    const int64_t most_bytes = std::min(kMostBytes, columns / 4);
    slab = a.dtype == Dtype::kFloat32 ? kSlab<float> : kSlab<__half>;
    cols = tile_cols(path, g.group_out(), rows_share_readings(g, slab));
    const int rows = cols == 256 ? 64 : 128;  // as dispatch_product has them
    row_tiles = int(ceil_div(g.taps() * ceil_div(g.group_in(), slab), rows / slab));
    col_tiles = int(ceil_div(g.group_out(), cols));
    const int64_t blocks = row_tiles * col_tiles * g.groups;
    const int64_t bytes = g.taps() * g.group_in() * g.out_channels * 4;
    const int64_t steps = ceil_div(g.out_pixels(), kRunPixels);
    const int64_t most = std::max<int64_t>(1, std::min(most_bytes / bytes, steps / kLeastSteps));
    // The number of runs that leaves the fewest multiprocessors idle in the last wave
    runs = 1;
    double best = 0;
    for (int64_t r = 1; r <= std::min<int64_t>(most, 64); ++r) {
      const int64_t waves = ceil_div(blocks * r, kMultiprocessors);
      const double used = double(blocks * r) / double(waves * kMultiprocessors);
      if (used > best + 0.02) {
        best = used;
        runs = int(r);
      }
    }
  }
  int64_t partial_bytes(const ConvArgs& a) const {
    return int64_t(runs) * a.g.taps() * a.g.group_in() * a.g.out_channels * 4;
  }
};

template <class M>
void launch(const ConvArgs& a, const Cut& cut, void* workspace, cudaStream_t stream) {
  char* zeros = static_cast<char*>(workspace) + cut.partial_bytes(a);
  check(cudaMemsetAsync(zeros, 0, a.g.in_channels * sizeof(typename M::element), stream), "zeros");
  const GradWeightArgs f{a,
                         static_cast<float*>(workspace),
                         zeros,
                         int(a.g.out_pixels()),
                         cut.runs,
                         int(ceil_div(a.g.group_in(), cut.slab)),
                         cut.row_tiles,
                         cut.col_tiles};
  auto* kernel = grad_weight_kernel<M, true>;
  if constexpr (M::kTileCols == 64) {
    if (!rows_share_readings(a.g, cut.slab)) kernel = grad_weight_kernel<M, false>;
  }
  const int blocks = cut.row_tiles * cut.col_tiles * int(a.g.groups) * cut.runs;
  launch_blocks(kernel, f, blocks, M::kThreads + M::kFillThreads, sizeof(Shared<M>), stream);
  check(cudaGetLastError(), "fused grad_weight");
  launch_add_weight_runs(a, cut.runs, workspace, stream);
}

}  // namespace

size_t fused_grad_weight_workspace(const ConvArgs& a, Path path) {
  return Cut(a, path).partial_bytes(a) + a.g.in_channels * element_size(a.dtype);
}

void launch_fused_grad_weight(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream) {
  const Cut cut(a, path);
  dispatch_product(a, path, cut.cols, [&](auto product) {
    launch<typename decltype(product)::type>(a, cut, workspace, stream);
  });
}

}  // namespace dcnv2::cuda
