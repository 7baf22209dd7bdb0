// SPDX-License-Identifier: BSD-3-Clause
// grad_weight as a matrix product over pixels: channels sampled at a tap, times grad_output. Some of a
// block's warps sample, the others multiply. Blocks that would not fill the chip share tiles: they cut the
// pixels into runs, whose number depends on the shape alone, and whose sums are added in order.
#include "cuda/common/store_weight.cuh"
#include "cuda/tensor_core/tile_config.cuh"
#include "cuda/tensor_core/mma/pipeline.cuh"
#include "cuda/tensor_core/bilinear_producer.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kFillBarrier = 1;
constexpr int kTurns = 4;      // steps whose readings the table holds
constexpr int kRunPixels = 64;  // runs are cut at multiples of it

// How a problem is cut: into tiles of some samples (pairs of a tap and a slab of channels) by some output
// channels, of which the first `whole` have a block each, and the others one for each of their runs of pixels.
struct Cut {
  int samples, outputs;  // of a tile
  int slab, slabs;       // channels of a slab, slabs of a weight group
  int sample_tiles, output_tiles, tiles;
  int whole = 0, runs = 1;

  Cut(const ConvArgs& a, Path path) {
    constexpr int64_t kMostBytes = int64_t(48) << 20;  // of partial sums
    constexpr int kMultiprocessors = 132, kLeastSteps = 8;
    const ConvGeometry& g = a.g;
    const int64_t columns = g.out_pixels() * g.taps() * g.in_channels * element_size(a.dtype);
    const int64_t most_bytes = std::min(kMostBytes, columns / 4);
    slab = a.dtype == Dtype::kFloat32 ? kSlab<float> : kSlab<__half>;
    slabs = int(ceil_div(g.group_in(), slab));
    outputs = tile_cols(a, path, g.group_out(), rows_share_readings(g, slab));
    samples = outputs == 256 || floats_by_warpgroups(a, path) ? 64 : 128;  // as dispatch_pixel_product has them
    sample_tiles = int(ceil_div(g.taps() * slabs, samples / slab));
    output_tiles = int(ceil_div(g.group_out(), outputs));
    tiles = sample_tiles * output_tiles * int(g.groups);
    const int64_t most_runs = std::clamp<int64_t>(ceil_div(g.out_pixels(), kRunPixels) / kLeastSteps, 1, 64);
    // Whole waves of whole tiles or none, and the number of runs that keeps most multiprocessors busy
    double best = 0;
    for (int alone : {0, tiles / kMultiprocessors * kMultiprocessors}) {
      for (int r = 1; r <= most_runs; ++r) {
        const int64_t rest = int64_t(tiles - alone) * r;
        if (r > 1 && (alone + rest) * samples * outputs * 4 > most_bytes) break;
        const double waves = alone / kMultiprocessors + double(ceil_div(rest, kMultiprocessors)) / r;
        const double used = tiles / (waves * kMultiprocessors);
        if (used > best + 0.02) {
          best = used;
          whole = alone;
          runs = r;
        }
      }
    }
  }
  __host__ __device__ int tiles_in_runs() const { return tiles - whole; }
  int blocks() const { return whole + tiles_in_runs() * runs; }
  int64_t partial_bytes() const { return int64_t(blocks()) * samples * outputs * 4; }
};

struct GradWeightArgs {
  ConvArgs conv;
  Cut cut;
  float* partial;     // [blocks, samples of a tile, output channels of a tile]
  const char* zeros;  // [in_channels]
  int pixels;
};

// What the samples of some steps have in common with the other operand, in shared memory: their pixels, and
// where those lie in grad_output, counted in pixels; -1: not among the samples.
template <int kEntries>
struct SamplePixels {
  Pixel pixel[kEntries];
  int at[kEntries];
};

template <class M>
struct Shared {
  using T = typename M::element;
  static constexpr int kPixels = M::kDepth;  // of a step
  static constexpr int kSlabBytes = kPixels * kRowBytes;
  static constexpr int kSamples = M::kTurned ? M::kTileCols : M::kTileRows;
  static constexpr int kOutputs = M::kTurned ? M::kTileRows : M::kTileCols;
  static constexpr int kSampleSlabs = kSamples / kSlab<T>, kOutputSlabs = kOutputs / kSlab<T>;
  static constexpr int kPartBytes = kSampleSlabs * kSlabBytes;
  static constexpr int kStages = sizeof(T) == 4 ? 2 : 3;  // as many as there is room for

  char samples[kStages][M::kParts * kPartBytes];
  char grads[kStages][kOutputSlabs * kSlabBytes];
  static constexpr int kRows = kSampleSlabs * kPixels;  // samples of a step
  // One is read while the other is filled.
  ReadingTable<Want::kWeights, kRows, kTurns> table[2];
  SamplePixels<kTurns * kRows> pixels[2];
  Barrier full[kStages], empty[kStages];
};

// What a block computes: some (tap, slab) pairs by some output channels, over a run of pixels.
struct Tile {
  int pair0, output0, group;
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
  const Cut& cut = f.cut;
  const int beyond = int(blockIdx.x) - cut.whole, runs = beyond < 0 ? 1 : cut.runs;
  const int run = beyond < 0 ? 0 : beyond / cut.tiles_in_runs();
  int index = beyond < 0 ? blockIdx.x : cut.whole + beyond % cut.tiles_in_runs();
  auto take = [&](int count) {
    const int at = index % count;
    index /= count;
    return at;
  };
  Tile t;
  t.output0 = take(cut.output_tiles) * Shared<M>::kOutputs;
  t.pair0 = take(cut.sample_tiles) * Shared<M>::kSampleSlabs;
  t.group = index;
  const int64_t all = ceil_div(f.pixels, kRunPixels);
  const int begin = int(all * run / runs), end = int(all * (run + 1) / runs);
  t.first = begin * kRunPixels;
  t.steps = (end - begin) * (kRunPixels / M::kDepth);
  return t;
}

// The pixels that a thread looks up for the table, a table ahead, and their samples where rows share them: asked
// for while others are taken.
template <class M>
struct Lookups {
  using T = typename M::element;
  using S = Shared<M>;
  static constexpr int kEntries = kTurns * S::kRows;
  static constexpr int kEach = (kEntries + M::kFillThreads - 1) / M::kFillThreads;

  const GradWeightArgs& f;
  const Tile& tile;
  const int thread;
  RawSample raw[kEach];

  __device__ Place place(int entry, const Pixel& pixel, bool exists) const {
    const Pair pair = pair_at(f, tile.pair0 + entry % S::kRows / S::kPixels);
    const int channel = tile.group * int(f.conv.g.group_in()) + pair.slab * kSlab<T>;
    return {pixel, pair.tap, channel / int(f.conv.g.deform_channels()), exists && pair.slab < f.cut.slabs};
  }
  template <bool kSamples>
  __device__ void ask(int step0, SamplePixels<kEntries>& pixels) {
    const int height = int(f.conv.g.out_height), width = int(f.conv.g.out_width);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int entry = thread + i * M::kFillThreads;
      if (entry >= kEntries) break;
      const int index = tile.first + (step0 + entry / S::kRows) * S::kPixels + entry % S::kPixels;
      const Pixel p = strip_pixel(index, height, width);
      pixels.pixel[entry] = p;
      pixels.at[entry] = index < f.pixels ? (p.n * height + p.y) * width + p.x : -1;
      if (kSamples) raw[i] = ask_sample(f.conv, place(entry, p, index < f.pixels));
    }
  }
  template <class Table>
  __device__ void put(const Source& source, const SamplePixels<kEntries>& pixels, Table& table) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int entry = thread + i * M::kFillThreads;
      if (entry >= kEntries) break;
      const Place at = place(entry, pixels.pixel[entry], pixels.at[entry] >= 0);
      table.put(entry, take_reading<Want::kWeights>(f.conv, source, at, raw[i]));
    }
  }
};

// Where a stage has a pixel: a chunk of its samples, and its grad_output in every slab.
template <class M>
__device__ __forceinline__ int sample_offset(int pixel, int chunk) {
  using T = typename M::element;
  if constexpr (!M::kTurned) return chunk_offset(pixel, chunk);
  return pixel / kSlab<T> * (Shared<M>::kSamples * kRowBytes) + across_offset(pixel % kSlab<T>, chunk);
}
template <class M>
__device__ __forceinline__ int grad_row(int pixel) {
  if constexpr (M::kTurned) return M::slab_row(pixel);
  return pixel;
}

template <class M, bool kShareReadings>
__device__ void fill(const GradWeightArgs& f, Shared<M>& shared, int thread) {
  using T = typename M::element;
  using S = Shared<M>;
  constexpr int kThreads = M::kFillThreads, kPixels = S::kPixels;
  constexpr int kSampleSlabs = S::kSampleSlabs, kOutputSlabs = S::kOutputSlabs;
  static_assert(kThreads == kPixels * kChunks);
  const ConvArgs& a = f.conv;
  const Source source = make_source<T>(a, f.zeros);
  const Tile tile = block_tile<M>(f);
  const int depth = int(a.g.group_in()), outputs = int(a.g.group_out());
  const int row = thread / kChunks, chunk = thread % kChunks;
  const T* grad = static_cast<const T*>(a.grad_output) + tile.group * outputs;

  const SharedAddresses address(&shared);
  const uint32_t slot = address(shared.samples) + sample_offset<M>(row, chunk);
  const uint32_t grad_slot = address(shared.grads) + chunk_offset(grad_row<M>(row), chunk);
  const uint32_t full = address(shared.full), empty = address(shared.empty);

  // This thread's channels and tap in every slab
  int tap[kSampleSlabs], channel[kSampleSlabs];
  bool wanted[kSampleSlabs];
  for (int i = 0; i < kSampleSlabs; ++i) {
    const Pair pair = pair_at(f, tile.pair0 + i);
    const int within = pair.slab * kSlab<T> + chunk * kVector<T>;
    tap[i] = pair.tap;
    wanted[i] = within < depth;
    channel[i] = tile.group * depth + within;
  }

  constexpr int kItemBytes = (M::kTurned ? kSlab<T> : kPixels) * kRowBytes;
  SampleFiller<M, kSampleSlabs, kItemBytes, S::kPartBytes, true> filler;
  RingPosition<S::kStages> at;
  Lookups<M> lookups{f, tile, thread};
  lookups.template ask<kShareReadings>(0, shared.pixels[0]);
  for (int step0 = 0, side = 0; step0 < tile.steps; step0 += kTurns, side ^= 1) {
    auto& pixels = shared.pixels[side];
    auto& table = shared.table[side];
    if (kShareReadings) lookups.put(source, pixels, table);
    named_barrier(kFillBarrier, kThreads);  // the others of the two are read no more
    lookups.template ask<kShareReadings>(step0 + kTurns, shared.pixels[side ^ 1]);
    const int turns = min(kTurns, tile.steps - step0);
    for (int turn = 0; turn < turns; ++turn) {
      const int at_pixel = pixels.at[turn * S::kRows + row];
      const bool exists = at_pixel >= 0;
      auto reading = [&](int i) {
        Reading r;
        if constexpr (kShareReadings) {
          r = table.reading(turn, i * kPixels + row);
          if (!wanted[i]) r = {source.zeros, 0, 0, r.weight};
        } else {
          r = load_reading<Want::kWeights>(
              a, source,
              {pixels.pixel[turn * S::kRows + row], tap[i],
               channel[i] / int(a.g.deform_channels()), wanted[i] && exists});
        }
        if (wanted[i]) r.at += channel[i] * int(sizeof(T));
        return r;
      };
      const T* grad_row = grad + int64_t(max(at_pixel, 0)) * int(a.g.out_channels);
      filler.step([&](auto& corners, int item) { corners.load(item, 1, reading); },
                  [&] {
                    Barrier::wait(empty + at.stage * int(sizeof(Barrier)), at.parity ^ 1);
#pragma unroll
                    for (int j = 0; j < kOutputSlabs; ++j) {
                      const int o = tile.output0 + j * kSlab<T> + chunk * kVector<T>;
                      const bool there = exists && o < outputs;
                      copy_chunk(grad_slot + at.stage * int(sizeof(shared.grads[0])) + j * S::kSlabBytes,
                                 grad_row + (there ? o : 0), !there);
                    }
                  },
                  slot + at.stage * int(sizeof(shared.samples[0])), full + at.stage * int(sizeof(Barrier)));
      at.advance();
    }
  }
  filler.finish_pending();
}

template <class M>
__device__ void multiply(const GradWeightArgs& f, Shared<M>& shared) {
  using S = Shared<M>;
  const Tile tile = block_tile<M>(f);
  const int thread = threadIdx.x;
  M product;
  RingPosition<Shared<M>::kStages> at;
  Release<M, Shared<M>::kStages> release{shared.empty};
  for (int step = 0; step < tile.steps; ++step) {
    shared.full[at.stage].wait(at.parity);
    M::see_stores();
    if constexpr (M::kTurned) {
      product.template multiply_turned<S::kPartBytes>(shared.grads[at.stage], shared.samples[at.stage], thread);
    } else {
      product.multiply_transposed(shared.samples[at.stage], shared.grads[at.stage], thread);
    }
    release.multiplied(at.stage);
    at.advance();
  }
  release.finish(product);

  // From a sample to the next, and from an output channel to the next
  constexpr int kSampleStep = S::kOutputs, kOutputStep = 1;
  constexpr int kDown = M::kTurned ? kOutputStep : kSampleStep, kAcross = M::kTurned ? kSampleStep : kOutputStep;
  float* sums = f.partial + int64_t(blockIdx.x) * (S::kSamples * S::kOutputs);
#pragma unroll
  for (int i = 0; i < M::kThreadRows; ++i) {
    float* to = sums + M::row(thread, i) * kDown + M::column(thread) * kAcross;
#pragma unroll
    for (int j = 0; j < M::kThreadPairs; ++j, to += 8 * kAcross) {
      const float2 pair = product.pair(i, j);
      if constexpr (kAcross == 1) {
        *reinterpret_cast<float2*>(to) = pair;
      } else {
        to[0] = pair.x;
        to[kAcross] = pair.y;
      }
    }
  }
}

template <class M, bool kShareReadings>
__global__ void __launch_bounds__(M::kThreads + M::kFillThreads, 1)
    grad_weight_kernel(__grid_constant__ const GradWeightArgs f) {
  if constexpr (M::kHere) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<Shared<M>*>(raw);
    init_ring(shared.full, shared.empty, M::kFillThreads / 32 * kArrivals,
              M::kThreads / 32 * kArrivals);
    if (threadIdx.x < M::kThreads) {
      M::take_registers();
      multiply<M>(f, shared);
    } else {
      M::give_registers();
      fill<M, kShareReadings>(f, shared, threadIdx.x - M::kThreads);
    }
  }
}

// What the blocks of a tile have added up.
struct TileSums {
  Cut cut;
  const float* partial;
  int taps, depth;

  __device__ float operator()(int group, int row, int o) const {
    const int tap = row / depth, c = row % depth, pair = c / cut.slab * taps + tap;
    const int pairs = cut.samples / cut.slab, sample = pair % pairs * cut.slab + c % cut.slab;
    const int tile = (group * cut.sample_tiles + pair / pairs) * cut.output_tiles + o / cut.outputs;
    const float* at = partial + (int64_t(tile) * cut.samples + sample) * cut.outputs + o % cut.outputs;
    float sum = *at;
    if (tile < cut.whole) return sum;
    const int64_t step = int64_t(cut.tiles_in_runs()) * cut.samples * cut.outputs;
#pragma unroll 4
    for (int run = 1; run < cut.runs; ++run) sum += at[run * step];
    return sum;
  }
};

template <class M>
void launch(const ConvArgs& a, const Cut& cut, void* workspace, cudaStream_t stream) {
  using T = typename M::element;
  using S = Shared<M>;
  const ConvGeometry& g = a.g;
  auto* partial = static_cast<float*>(workspace);
  char* zeros = static_cast<char*>(workspace) + cut.partial_bytes();
  check(cudaMemsetAsync(zeros, 0, g.in_channels * sizeof(T), stream), "zeros");
  const GradWeightArgs f{a, cut, partial, zeros, int(g.out_pixels())};
  auto* kernel = grad_weight_kernel<M, true>;
  if constexpr (S::kOutputs == 64) {
    if (!rows_share_readings(g, cut.slab)) kernel = grad_weight_kernel<M, false>;
  }
  launch_blocks(kernel, f, cut.blocks(), M::kThreads + M::kFillThreads, sizeof(S), stream);
  check(cudaGetLastError(), "fused grad_weight");
  launch_store_weight<T>(a, TileSums{cut, partial, int(g.taps()), int(g.group_in())}, stream);
}

}  // namespace

size_t fused_grad_weight_workspace(const ConvArgs& a, Path path) {
  return Cut(a, path).partial_bytes() + a.g.in_channels * element_size(a.dtype);
}

void launch_fused_grad_weight(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream) {
  const Cut cut(a, path);
  dispatch_pixel_product(a, path, cut.outputs, [&](auto product) {
    launch<typename decltype(product)::type>(a, cut, workspace, stream);
  });
}

}  // namespace dcnv2::cuda
