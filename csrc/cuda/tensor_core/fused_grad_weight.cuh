// SPDX-License-Identifier: BSD-3-Clause
// grad_weight as an implicit GEMM over pixels: samples^T[taps * channels, pixels] *
// grad_output[pixels, outputs]. Producer warps sample and copy grad_output, math warps multiply.
// Every block writes the sums of its tile and split; fused_grad_weight.cu adds the splits in order.
//
// kSwapAB: a wgmma of floats reads operands from shared memory along the depth only, but both
// operands here are contiguous along the other axis. With kSwapAB the product is transposed,
// grad_output^T * samples: grad_output becomes the A operand, which math warps load into registers
// in any layout, and the producers store the samples transposed. So the tile's rows are output
// channels and its columns samples, where the other products have rows of samples.
#pragma once

#include "cuda/tensor_core/bilinear_producer.cuh"
#include "cuda/tensor_core/kernel_launch.cuh"
#include "cuda/tensor_core/mma/instruction.h"
#include "cuda/tensor_core/split_k_plan.h"

namespace dcnv2::cuda {

namespace {

constexpr int kTableSteps = 4;  // steps whose sample addresses one table holds

// ---- Types

struct GradWeightArgs {
  ConvArgs conv;
  SplitKPlan plan;
  float* partial;  // [blocks, samples of a tile, output channels of a tile]
  const char* zeros;  // [in_channels]
  int pixels;
};

// ---- Shared memory

// The pixels of the steps that one table serves.
template <int kEntries>
struct SamplePixels {
  Pixel pixel[kEntries];
  int at[kEntries];  // index of the pixel in grad_output; -1 past the last pixel
};

template <class M>
struct GradWeightSmem {
  using T = typename M::element;
  static constexpr int kPixels = M::kTileK;  // depth of a step
  static constexpr int kAtomBytes = kPixels * kRowBytes;
  static constexpr int kSamples = M::kSwapAB ? M::kTileCols : M::kTileRows;
  static constexpr int kOutputs = M::kSwapAB ? M::kTileRows : M::kTileCols;
  // Swizzle atoms of [kPixels, 128 bytes] that a stage of each operand has
  static constexpr int kSampleAtoms = kSamples / kRowElements<T>;
  static constexpr int kOutputAtoms = kOutputs / kRowElements<T>;
  static constexpr int kSplitBytes = kSampleAtoms * kAtomBytes;
  static constexpr int kStages = sizeof(T) == 4 ? 2 : 3;  // what 227 KiB have room for

  char samples[kStages][M::kSplits * kSplitBytes];
  char grads[kStages][kOutputAtoms * kAtomBytes];
  static constexpr int kRows = kSampleAtoms * kPixels;  // samples of a step
  // Double buffered: one table is read while the next is filled
  AddressTable<SampleKind::kWeights, kRows, kTableSteps> table[2];
  SamplePixels<kTableSteps * kRows> pixels[2];
  Barrier full[kStages], empty[kStages];
};

// ---- Tile scheduler

// One tile and split: some pairs of a tap and a channel tile, times some output channels, summed
// over a range of pixels.
struct WeightTile {
  int pair0, output0, group;
  int first, steps;  // first pixel, steps of kTileK pixels
};
// The taps of a channel tile follow one another, so a block samples the same pixels again and finds
// them in the cache.
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

// ---- Producer warps

// Fills the tables: a thread's share of the entries. Offsets and masks are loaded one table ahead,
// so that the loads overlap the sampling of the current table.
template <class M>
struct Lookups {
  using T = typename M::element;
  using S = GradWeightSmem<M>;
  static constexpr int kEntries = kTableSteps * S::kRows;
  static constexpr int kEntriesPerThread =
      (kEntries + M::kProducerThreads - 1) / M::kProducerThreads;

  const GradWeightArgs& f;
  const WeightTile& tile;
  const int thread;
  RawSample raw[kEntriesPerThread];

  __device__ SampleId id_of(int entry, const Pixel& pixel, bool exists) const {
    const Pair pair = pair_at(f, tile.pair0 + entry % S::kRows / S::kPixels);
    const int channel = tile.group * int(f.conv.g.group_in()) + pair.channel_tile * kRowElements<T>;
    return {pixel, pair.tap, channel / int(f.conv.g.deform_channels()),
            exists && pair.channel_tile < f.plan.channel_tiles};
  }
  template <bool kSamples>
  __device__ void prefetch(int step0, SamplePixels<kEntries>& pixels) {
    const int height = int(f.conv.g.out_height), width = int(f.conv.g.out_width);
#pragma unroll
    for (int i = 0; i < kEntriesPerThread; ++i) {
      const int entry = thread + i * M::kProducerThreads;
      if (entry >= kEntries) break;
      const int index = tile.first + (step0 + entry / S::kRows) * S::kPixels + entry % S::kPixels;
      const Pixel p = strip_pixel(index, height, width);
      pixels.pixel[entry] = p;
      pixels.at[entry] = index < f.pixels ? (p.n * height + p.y) * width + p.x : -1;
      if (kSamples) raw[i] = prefetch_sample(f.conv, id_of(entry, p, index < f.pixels));
    }
  }
  template <class Table>
  __device__ void store(const Source& source, const SamplePixels<kEntries>& pixels,
                        Table& table) const {
#pragma unroll
    for (int i = 0; i < kEntriesPerThread; ++i) {
      const int entry = thread + i * M::kProducerThreads;
      if (entry >= kEntries) break;
      const SampleId id = id_of(entry, pixels.pixel[entry], pixels.at[entry] >= 0);
      table.put(entry, consume_address<SampleKind::kWeights>(f.conv, source, id, raw[i]));
    }
  }
};

// Byte offset in a stage of a 16-byte vector of a pixel's samples, and the row of its grad_output.
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

  // This thread's channels and tap in each swizzle atom
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
    named_barrier(kProducerBarrier, kThreads);  // the other buffers are no longer read
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

// ---- Math warps and epilogue

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

  // Epilogue: the block's sums, [samples, outputs]. With kSwapAB the tile's rows are outputs.
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

// ---- Kernel

template <class M, bool kShareAddresses>
__global__ void __launch_bounds__(M::kMathThreads + M::kProducerThreads, 1)
    grad_weight_kernel(__grid_constant__ const GradWeightArgs f) {
  if constexpr (M::kSupported) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<GradWeightSmem<M>*>(raw);
    init_pipeline(shared.full, shared.empty, M::kProducerThreads / 32 * kArrivals,
                  M::kMathThreads / 32 * kArrivals);
    run_warp_roles<M>([&] { math_warps<M>(f, shared); },
                      [&](int thread) { producer_warps<M, kShareAddresses>(f, shared, thread); });
  }
}

// ---- Launch

template <class M>
void launch(const ConvArgs& a, const SplitKPlan& plan, bool share_addresses, void* workspace,
            cudaStream_t stream) {
  using T = typename M::element;
  using S = GradWeightSmem<M>;
  const ConvGeometry& g = a.g;
  auto* partial = static_cast<float*>(workspace);
  char* zeros = static_cast<char*>(workspace) + plan.partial_bytes();
  check(cudaMemsetAsync(zeros, 0, g.in_channels * sizeof(T), stream), "zeros");
  const GradWeightArgs f{
      .conv = a, .plan = plan, .partial = partial, .zeros = zeros, .pixels = int(g.out_pixels())};
  auto* kernel = grad_weight_kernel<M, true>;
  if constexpr (S::kOutputs == 64) {
    if (!share_addresses) kernel = grad_weight_kernel<M, false>;
  }
  launch_blocks(kernel, f, plan.blocks(), M::kMathThreads + M::kProducerThreads, sizeof(S), stream);
  check(cudaGetLastError(), "fused grad_weight");
}

}  // namespace

template <class Instruction>
void launch_fused_grad_weight(const ConvArgs& a, const SplitKPlan& plan, bool share_addresses,
                              void* workspace, cudaStream_t stream) {
  dispatch_grad_weight_tile(Instruction{}, a, plan.outputs, [&](auto product) {
    launch<typename decltype(product)::type>(a, plan, share_addresses, workspace, stream);
  });
}

}  // namespace dcnv2::cuda
