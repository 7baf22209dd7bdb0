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

constexpr int kProducerBarrier = 1;
constexpr int kTableSteps = 4;  // steps whose readings the table holds
constexpr int kSplitPixels = 64;  // runs are cut at multiples of it

// How a problem is cut: into tiles of some samples (pairs of a tap and a slab of channels) by some output
// channels, of which the first `whole` have a block each, and the others one for each of their runs of pixels.
struct SplitKPlan {
  int samples, outputs;  // of a tile
  int channel_tile, channel_tiles;  // channels of a slab, slabs of a weight group
  int sample_tiles, output_tiles, tiles;
  int unsplit_tiles = 0, splits = 1;

  SplitKPlan(const ConvArgs& a, Path path) {
    constexpr int64_t kMaxBytes = int64_t(48) << 20;  // of partial sums
    constexpr int kMultiprocessors = 132, kLeastSteps = 8;
    const ConvGeometry& g = a.g;
    const int64_t columns = g.out_pixels() * g.taps() * g.in_channels * element_size(a.dtype);
    const int64_t max_bytes = std::min(kMaxBytes, columns / 4);
    channel_tile = a.dtype == Dtype::kFloat32 ? kRowElements<float> : kRowElements<__half>;
    channel_tiles = int(ceil_div(g.group_in(), channel_tile));
    outputs = tile_cols(a, path, g.group_out(), rows_share_addresses(g, channel_tile));
    samples = outputs == 256 || uses_wgmma_tf32(a, path)
                  ? 64
                  : 128;  // as dispatch_pixel_product has them
    sample_tiles = int(ceil_div(g.taps() * channel_tiles, samples / channel_tile));
    output_tiles = int(ceil_div(g.group_out(), outputs));
    tiles = sample_tiles * output_tiles * int(g.groups);
    const int64_t max_splits =
        std::clamp<int64_t>(ceil_div(g.out_pixels(), kSplitPixels) / kLeastSteps, 1, 64);
    // Whole waves of whole tiles or none, and the number of runs that keeps most multiprocessors busy
    double best = 0;
    for (int unsplit : {0, tiles / kMultiprocessors * kMultiprocessors}) {
      for (int r = 1; r <= max_splits; ++r) {
        const int64_t rest = int64_t(tiles - unsplit) * r;
        if (r > 1 && (unsplit + rest) * samples * outputs * 4 > max_bytes) break;
        const double waves =
            unsplit / kMultiprocessors + double(ceil_div(rest, kMultiprocessors)) / r;
        const double used = tiles / (waves * kMultiprocessors);
        if (used > best + 0.02) {
          best = used;
          unsplit_tiles = unsplit;
          splits = r;
        }
      }
    }
  }
  __host__ __device__ int split_tiles() const { return tiles - unsplit_tiles; }
  int blocks() const { return unsplit_tiles + split_tiles() * splits; }
  int64_t partial_bytes() const { return int64_t(blocks()) * samples * outputs * 4; }
};

struct GradWeightArgs {
  ConvArgs conv;
  SplitKPlan plan;
  float* partial;  // [blocks, samples of a tile, output channels of a tile]
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
struct GradWeightSmem {
  using T = typename M::element;
  static constexpr int kPixels = M::kTileK;  // of a step
  static constexpr int kAtomBytes = kPixels * kRowBytes;
  static constexpr int kSamples = M::kSwapAB ? M::kTileCols : M::kTileRows;
  static constexpr int kOutputs = M::kSwapAB ? M::kTileRows : M::kTileCols;
  static constexpr int kSampleAtoms = kSamples / kRowElements<T>,
                       kOutputAtoms = kOutputs / kRowElements<T>;
  static constexpr int kSplitBytes = kSampleAtoms * kAtomBytes;
  static constexpr int kStages = sizeof(T) == 4 ? 2 : 3;  // as many as there is room for

  char samples[kStages][M::kSplits * kSplitBytes];
  char grads[kStages][kOutputAtoms * kAtomBytes];
  static constexpr int kRows = kSampleAtoms * kPixels;  // samples of a step
  // One is read while the other is filled.
  AddressTable<SampleKind::kWeights, kRows, kTableSteps> table[2];
  SamplePixels<kTableSteps * kRows> pixels[2];
  Barrier full[kStages], empty[kStages];
};

// What a block computes: some (tap, slab) pairs by some output channels, over a run of pixels.
struct WeightTile {
  int pair0, output0, group;
  int first, steps;  // pixel, steps of pixels
};
// A tap and a slab: the taps of a slab follow one another, so that a block samples the same pixels anew.
struct Pair {
  int tap, channel_tile;
};
__device__ __forceinline__ Pair pair_at(const GradWeightArgs& f, int index) {
  const int taps = int(f.conv.g.taps());
  return {index % taps, index / taps};
}

template <class M>
__device__ __forceinline__ WeightTile block_tile(const GradWeightArgs& f) {
  const SplitKPlan& plan = f.plan;
  const int beyond = int(blockIdx.x) - plan.unsplit_tiles, splits = beyond < 0 ? 1 : plan.splits;
  const int split = beyond < 0 ? 0 : beyond / plan.split_tiles();
  int index = beyond < 0 ? blockIdx.x : plan.unsplit_tiles + beyond % plan.split_tiles();
  auto take = [&](int count) {
    const int at = index % count;
    index /= count;
    return at;
  };
  WeightTile t;
  t.output0 = take(plan.output_tiles) * GradWeightSmem<M>::kOutputs;
  t.pair0 = take(plan.sample_tiles) * GradWeightSmem<M>::kSampleAtoms;
  t.group = index;
  const int64_t all = ceil_div(f.pixels, kSplitPixels);
  const int begin = int(all * split / splits), end = int(all * (split + 1) / splits);
  t.first = begin * kSplitPixels;
  t.steps = (end - begin) * (kSplitPixels / M::kTileK);
  return t;
}

// The pixels that a thread looks up for the table, a table ahead, and their samples where rows share them: asked
// for while others are taken.
template <class M>
struct Lookups {
  using T = typename M::element;
  using S = GradWeightSmem<M>;
  static constexpr int kEntries = kTableSteps * S::kRows;
  static constexpr int kEach = (kEntries + M::kProducerThreads - 1) / M::kProducerThreads;

  const GradWeightArgs& f;
  const WeightTile& tile;
  const int thread;
  RawSample raw[kEach];

  __device__ SampleId place(int entry, const Pixel& pixel, bool exists) const {
    const Pair pair = pair_at(f, tile.pair0 + entry % S::kRows / S::kPixels);
    const int channel = tile.group * int(f.conv.g.group_in()) + pair.channel_tile * kRowElements<T>;
    return {pixel, pair.tap, channel / int(f.conv.g.deform_channels()),
            exists && pair.channel_tile < f.plan.channel_tiles};
  }
  template <bool kSamples>
  __device__ void prefetch(int step0, SamplePixels<kEntries>& pixels) {
    const int height = int(f.conv.g.out_height), width = int(f.conv.g.out_width);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int entry = thread + i * M::kProducerThreads;
      if (entry >= kEntries) break;
      const int index = tile.first + (step0 + entry / S::kRows) * S::kPixels + entry % S::kPixels;
      const Pixel p = strip_pixel(index, height, width);
      pixels.pixel[entry] = p;
      pixels.at[entry] = index < f.pixels ? (p.n * height + p.y) * width + p.x : -1;
      if (kSamples) raw[i] = prefetch_sample(f.conv, place(entry, p, index < f.pixels));
    }
  }
  template <class Table>
  __device__ void store(const Source& source, const SamplePixels<kEntries>& pixels,
                        Table& table) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int entry = thread + i * M::kProducerThreads;
      if (entry >= kEntries) break;
      const SampleId at = place(entry, pixels.pixel[entry], pixels.at[entry] >= 0);
      table.put(entry, consume_address<SampleKind::kWeights>(f.conv, source, at, raw[i]));
    }
  }
};

// Where a stage has a pixel: a chunk of its samples, and its grad_output in every slab.
template <class M>
__device__ __forceinline__ int sample_offset(int pixel, int vec) {
  using T = typename M::element;
  if constexpr (!M::kSwapAB) return swizzled_offset(pixel, vec);
  return pixel / kRowElements<T> * (GradWeightSmem<M>::kSamples * kRowBytes) +
         transposed_offset(pixel % kRowElements<T>, vec);
}
template <class M>
__device__ __forceinline__ int grad_row(int pixel) {
  if constexpr (M::kSwapAB) return M::swapped_row(pixel);
  return pixel;
}

template <class M, bool kShareAddresses>
__device__ void producer_warps(const GradWeightArgs& f, GradWeightSmem<M>& shared, int thread) {
  using T = typename M::element;
  using S = GradWeightSmem<M>;
  constexpr int kThreads = M::kProducerThreads, kPixels = S::kPixels;
  constexpr int kSampleAtoms = S::kSampleAtoms, kOutputAtoms = S::kOutputAtoms;
  static_assert(kThreads == kPixels * kRowVecs);
  const ConvArgs& a = f.conv;
  const Source source = make_source<T>(a, f.zeros);
  const WeightTile tile = block_tile<M>(f);
  const int depth = int(a.g.group_in()), outputs = int(a.g.group_out());
  const int row = thread / kRowVecs, vec = thread % kRowVecs;
  const T* grad = static_cast<const T*>(a.grad_output) + tile.group * outputs;

  const SharedAddresses smem(&shared);
  const uint32_t sample_smem = smem(shared.samples) + sample_offset<M>(row, vec);
  const uint32_t grad_smem = smem(shared.grads) + swizzled_offset(grad_row<M>(row), vec);
  const uint32_t full = smem(shared.full), empty = smem(shared.empty);

  // This thread's channels and tap in every slab
  int tap[kSampleAtoms], channel[kSampleAtoms];
  bool valid[kSampleAtoms];
  for (int i = 0; i < kSampleAtoms; ++i) {
    const Pair pair = pair_at(f, tile.pair0 + i);
    const int within = pair.channel_tile * kRowElements<T> + vec * kVecSize<T>;
    tap[i] = pair.tap;
    valid[i] = within < depth;
    channel[i] = tile.group * depth + within;
  }

  constexpr int kItemBytes = (M::kSwapAB ? kRowElements<T> : kPixels) * kRowBytes;
  SampleProducer<M, kSampleAtoms, kItemBytes, S::kSplitBytes, true> producer;
  PipelineState<S::kStages> state;
  Lookups<M> lookups{f, tile, thread};
  lookups.template prefetch<kShareAddresses>(0, shared.pixels[0]);
  for (int step0 = 0, buffer = 0; step0 < tile.steps; step0 += kTableSteps, buffer ^= 1) {
    auto& pixels = shared.pixels[buffer];
    auto& table = shared.table[buffer];
    if (kShareAddresses) lookups.store(source, pixels, table);
    named_barrier(kProducerBarrier, kThreads);  // the others of the two are read no more
    lookups.template prefetch<kShareAddresses>(step0 + kTableSteps, shared.pixels[buffer ^ 1]);
    const int table_steps = min(kTableSteps, tile.steps - step0);
    for (int table_step = 0; table_step < table_steps; ++table_step) {
      const int at_pixel = pixels.at[table_step * S::kRows + row];
      const bool exists = at_pixel >= 0;
      auto address = [&](int i) {
        SampleAddress r;
        if constexpr (kShareAddresses) {
          r = table.at(table_step, i * kPixels + row);
          if (!valid[i]) r = {source.zeros, 0, 0, r.weight};
        } else {
          r = load_address<SampleKind::kWeights>(
              a, source,
              {pixels.pixel[table_step * S::kRows + row], tap[i],
               channel[i] / int(a.g.deform_channels()), valid[i] && exists});
        }
        if (valid[i]) r.at += channel[i] * int(sizeof(T));
        return r;
      };
      const T* grad_row = grad + int64_t(max(at_pixel, 0)) * int(a.g.out_channels);
      producer.step([&](auto& corners, int item) { corners.load(item, 1, address); },
                    [&] {
                      Barrier::wait(empty + state.stage * int(sizeof(Barrier)), state.phase ^ 1);
#pragma unroll
                      for (int j = 0; j < kOutputAtoms; ++j) {
                        const int o = tile.output0 + j * kRowElements<T> + vec * kVecSize<T>;
                        const bool there = exists && o < outputs;
                        cp_async_vec16(grad_smem + state.stage * int(sizeof(shared.grads[0])) +
                                           j * S::kAtomBytes,
                                       grad_row + (there ? o : 0), !there);
                      }
                    },
                    sample_smem + state.stage * int(sizeof(shared.samples[0])),
                    full + state.stage * int(sizeof(Barrier)));
      state.advance();
    }
  }
  producer.commit_pending();
}

template <class M>
__device__ void math_warps(const GradWeightArgs& f, GradWeightSmem<M>& shared) {
  using S = GradWeightSmem<M>;
  const WeightTile tile = block_tile<M>(f);
  const int thread = threadIdx.x;
  M product;
  PipelineState<GradWeightSmem<M>::kStages> state;
  ConsumerRelease<M, GradWeightSmem<M>::kStages> release{shared.empty};
  for (int step = 0; step < tile.steps; ++step) {
    shared.full[state.stage].wait(state.phase);
    M::fence_proxy_async();
    if constexpr (M::kSwapAB) {
      product.template multiply_swapped<S::kSplitBytes>(shared.grads[state.stage],
                                                        shared.samples[state.stage], thread);
    } else {
      product.multiply_transposed(shared.samples[state.stage], shared.grads[state.stage], thread);
    }
    release.mma_issued(state.stage);
    state.advance();
  }
  release.finish(product);

  // From a sample to the next, and from an output channel to the next
  constexpr int kSampleStep = S::kOutputs, kOutputStep = 1;
  constexpr int kRowStride = M::kSwapAB ? kOutputStep : kSampleStep,
                kColStride = M::kSwapAB ? kSampleStep : kOutputStep;
  float* sums = f.partial + int64_t(blockIdx.x) * (S::kSamples * S::kOutputs);
#pragma unroll
  for (int i = 0; i < M::kThreadRows; ++i) {
    float* to = sums + M::row(thread, i) * kRowStride + M::column(thread) * kColStride;
#pragma unroll
    for (int j = 0; j < M::kThreadPairs; ++j, to += 8 * kColStride) {
      const float2 pair = product.pair(i, j);
      if constexpr (kColStride == 1) {
        *reinterpret_cast<float2*>(to) = pair;
      } else {
        to[0] = pair.x;
        to[kColStride] = pair.y;
      }
    }
  }
}

template <class M, bool kShareAddresses>
__global__ void __launch_bounds__(M::kMathThreads + M::kProducerThreads, 1)
    grad_weight_kernel(__grid_constant__ const GradWeightArgs f) {
  if constexpr (M::kSupported) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<GradWeightSmem<M>*>(raw);
    init_pipeline(shared.full, shared.empty, M::kProducerThreads / 32 * kArrivals,
                  M::kMathThreads / 32 * kArrivals);
    if (threadIdx.x < M::kMathThreads) {
      M::warpgroup_reg_alloc();
      math_warps<M>(f, shared);
    } else {
      M::warpgroup_reg_dealloc();
      producer_warps<M, kShareAddresses>(f, shared, threadIdx.x - M::kMathThreads);
    }
  }
}

// What the blocks of a tile have added up.
struct TileSums {
  SplitKPlan plan;
  const float* partial;
  int taps, depth;

  __device__ float operator()(int group, int row, int o) const {
    const int tap = row / depth, c = row % depth, pair = c / plan.channel_tile * taps + tap;
    const int pairs = plan.samples / plan.channel_tile,
              sample = pair % pairs * plan.channel_tile + c % plan.channel_tile;
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

template <class M>
void launch(const ConvArgs& a, const SplitKPlan& plan, void* workspace, cudaStream_t stream) {
  using T = typename M::element;
  using S = GradWeightSmem<M>;
  const ConvGeometry& g = a.g;
  auto* partial = static_cast<float*>(workspace);
  char* zeros = static_cast<char*>(workspace) + plan.partial_bytes();
  check(cudaMemsetAsync(zeros, 0, g.in_channels * sizeof(T), stream), "zeros");
  const GradWeightArgs f{a, plan, partial, zeros, int(g.out_pixels())};
  auto* kernel = grad_weight_kernel<M, true>;
  if constexpr (S::kOutputs == 64) {
    if (!rows_share_addresses(g, plan.channel_tile)) kernel = grad_weight_kernel<M, false>;
  }
  launch_blocks(kernel, f, plan.blocks(), M::kMathThreads + M::kProducerThreads, sizeof(S), stream);
  check(cudaGetLastError(), "fused grad_weight");
  launch_store_weight<T>(a, TileSums{plan, partial, int(g.taps()), int(g.group_in())}, stream);
}

}  // namespace

size_t fused_grad_weight_workspace(const ConvArgs& a, Path path) {
  return SplitKPlan(a, path).partial_bytes() + a.g.in_channels * element_size(a.dtype);
}

void launch_fused_grad_weight(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream) {
  const SplitKPlan plan(a, path);
  dispatch_pixel_product(a, path, plan.outputs, [&](auto product) {
    launch<typename decltype(product)::type>(a, plan, workspace, stream);
  });
}

}  // namespace dcnv2::cuda
