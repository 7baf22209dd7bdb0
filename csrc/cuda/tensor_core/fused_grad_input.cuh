// SPDX-License-Identifier: BSD-3-Clause
// The gradient of the input as one implicit matrix product: for every tap, the weighted sum of
// grad_output over the samples that touch a pixel, times the weight. The producer warps gather that
// sum, by the sorted samples, into shared memory; the math warps multiply. There are no columns in
// global memory, and nothing is scattered.
#pragma once

#include "cuda/tensor_core/mma/instruction.h"
#include "cuda/tensor_core/oversized_rows.cuh"
#include "cuda/tensor_core/pixel_entries.cuh"
#include "cuda/tensor_core/tiles.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Types

struct GradInputArgs {
  TileGrid grid;
  OutputMap map;  // grad_input of the lists' images
  SampleLists<float> lists;  // one for each deform group and tap
  OversizedCells oversized;  // of these lists
  const char* grad_output;  // of the lists' images
  uint32_t row_vecs;  // of grad_output, for each pixel
  int deform_channels;
};

// ---- Shared memory

template <class M>
struct GradInputSmem {
  PipelineStorage<M> pipeline;
  typename OversizedRows<M>::Smem oversized;
};

// ---- Producer warps

// Fills stage after stage of the pipeline. Eight threads gather a row, each its vector of channels.
template <class M>
struct GradInputProducer {
  using T = typename M::element;
  using Sum = float[kVecSize<T>];
  using Add = EntrySum<T>;
  static constexpr int kGroups = OversizedRows<M>::kGroups, kItems = OversizedRows<M>::kItems;
  // Whether the first entries of the next K tile are loaded while those of this one are added. A
  // thread with several rows lacks the registers for it.
  static constexpr bool kAhead = kItems == 1;
  // Loads in flight: most pixels have about four entries, few more than six.
  static constexpr uint32_t kFirst = kAhead ? 6 : 4;

  const GradInputArgs& f;
  GradInputSmem<M>& shared;
  const int group, lane;
  const bool copies;  // whether the thread takes part in the copy of the weight
  const bool any_oversized;  // whether any pixel of the lists may have an oversized row
  const EntryFinder finder;
  PipelineState<PipelineStorage<M>::kStages> state;

  __device__ GradInputProducer(const GradInputArgs& f, GradInputSmem<M>& shared, int thread)
      : f(f),
        shared(shared),
        group(thread / kRowVecs),
        lane(thread % kRowVecs),
        copies(in_first_warp(thread)),
        any_oversized(*f.lists.has_oversized != 0),
        finder(f.lists, f.row_vecs) {}

  __device__ ChannelSlice slice_of(const OutputTile& tile, int k_tile) const {
    const int depth = f.grid.packed.depth, within = k_tile * kRowElements<T> + lane * kVecSize<T>;
    const bool valid = within < depth;
    return {f.grad_output + (tile.group * depth + (valid ? within : 0)) * int(sizeof(T)), valid};
  }

  // The key of a row's pixel in a list.
  __device__ uint32_t key_of(int row, int list) const {
    if (!shared.pipeline.producer_rows.exists(row)) return EntryFinder::kNoKey;
    const Pixel p = shared.pipeline.producer_rows.pixel(row);
    return finder.key(list, p.n, p.y, p.x);
  }

  __device__ void store_row(char* smem, int row, const Sum& sum) const {
    const uint32_t to = shared_address(smem) + swizzled_offset(row, lane);
    store_operand<M, PipelineStorage<M>::kSplitBytes>(to, sum);
  }

  __device__ void fill_tile(const OutputTile& tile) {
    PipelineStorage<M>& pipeline = shared.pipeline;
    const PackedWeight& packed = f.grid.packed;
    const OversizedRows<M> oversized{.finder = finder,
                                     .cells = f.oversized,
                                     .grad_output = f.grad_output,
                                     .shared = shared.oversized,
                                     .group = group,
                                     .lane = lane};
    const int deform_group = (tile.group * packed.cols + tile.col0) / f.deform_channels;
    const int list0 = deform_group * packed.taps;

    // Software pipeline over taps: while the entries of a tap are added, the first entries of the
    // next tap and the list bounds of the one after it are loaded.
    uint32_t key0[kItems];  // of the rows' pixels at the first tap
    Entries next[kItems];
    Entry ready[kItems], first[kItems];
    uint32_t ready_count[kItems], count[kItems], most[kItems];
    int next_tap = 0;
    auto prefetch = [&] {  // after the last tap it loads the first one again, to avoid a branch
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        ready_count[i] = next[i].count();
        ready[i] = finder.entry(next[i], lane);
        next[i] = finder.entries(key0[i], next_tap);
      }
      next_tap = next_tap + 1 == packed.taps ? 0 : next_tap + 1;
    };
#pragma unroll
    for (int i = 0; i < kItems; ++i) key0[i] = key_of(group + i * kGroups, list0);
    prefetch();
    prefetch();

    for (int tap = 0; tap < packed.taps; ++tap) {
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        first[i] = ready[i];
        count[i] = ready_count[i];
      }
      prefetch();
      if (any_oversized) oversized.mark(count);
#pragma unroll
      for (int i = 0; i < kItems; ++i) most[i] = most_of_warp(count[i]);
      uint4 ahead[kFirst];
      ChannelSlice slice = slice_of(tile, 0);
      if (kAhead) {
        Add::template prefetch<kFirst>(first[0], 0, slice.valid ? count[0] : 0, slice.base, ahead);
      }

      for (int k_tile = 0; k_tile < packed.k_tiles; ++k_tile) {
        const ChannelSlice after = slice_of(tile, k_tile + 1);
        pipeline.empty[state.stage].wait(state.phase ^ 1);
        if (copies) {
          const int step = k_tile * packed.taps + tap;
          copy_tile<M>(pipeline.b[state.stage],
                       f.grid.weight + packed.tile(tile.group, step, tile.col0),
                       sizeof(pipeline.b[0]), pipeline.full[state.stage]);
        }
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          const uint32_t here = slice.valid ? count[i] : 0;
          uint4 now[kFirst];
          if constexpr (kAhead) {
#pragma unroll
            for (uint32_t k = 0; k < kFirst; ++k) now[k] = ahead[k];
            Add::template prefetch<kFirst>(first[i], 0, after.valid ? count[i] : 0, after.base,
                                           ahead);
          } else {
            Add::template prefetch<kFirst>(first[i], 0, here, slice.base, now);
          }
          Sum sum = {};
          Add::template add<kFirst>(first[i], 0, now, sum);
          Add::add_rest(first[i], kFirst, here, most[i], slice.base, sum);
          for (uint32_t begin = Add::kShared; begin < most[i]; begin += Add::kShared) {
            const bool more = begin < count[i];
            const Entry mine =
                more ? finder.entry(finder.entries(key0[i], tap), begin + lane) : Entry{0, 0};
            Add::add_rest(mine, 0, begin < here ? here - begin : 0, most[i] - begin, slice.base,
                          sum);
          }
          store_row(pipeline.a[state.stage], group + i * kGroups, sum);
        }
        if (any_oversized) {
          oversized.add(
              slice, [&](int row) { return finder.entries(key_of(row, list0), tap); },
              [&](int row, const Sum& sum) { store_row(pipeline.a[state.stage], row, sum); });
        }
        arrive_filled<M>(shared_address(&pipeline.full[state.stage]));
        state.advance();
        slice = after;
      }
    }
  }
};

template <class M>
__device__ void producer_warps(const GradInputArgs& f, GradInputSmem<M>& shared, int thread) {
  GradInputProducer<M> producer(f, shared, thread);
  for (int t = blockIdx.x; t < f.grid.tiles(); t += gridDim.x) {
    const OutputTile tile = output_tile_at<M>(f.grid, t);
    load_tile_pixels(shared.pipeline, f.grid, f.map, tile.row0, thread);
    producer.fill_tile(tile);
  }
}

// ---- Kernel

template <class M>
__global__ void __launch_bounds__(M::kMathThreads + M::kProducerThreads, 1)
    grad_input_kernel(__grid_constant__ const GradInputArgs f) {
  if constexpr (M::kSupported) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<GradInputSmem<M>*>(raw);
    run_gemm<M>(f.grid, f.map, shared.pipeline,
                [&](int thread) { producer_warps<M>(f, shared, thread); });
  }
}

}  // namespace

// ---- Launch

template <class Instruction>
void launch_fused_grad_input(const ConvArgs& a, const PackedWeight& packed, const void* weight,
                             const SampleLists<float>& lists, const OversizedCells& oversized,
                             const char* grad_output, void* grad_input, cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  dispatch_gemm_tile(Instruction{}, Int<64>{}, a, packed.tile_cols, [&](auto product) {
    using M = typename decltype(product)::type;
    const GradInputArgs f{
        .grid = tile_grid<M>(packed, weight, lists.grid.images * g.height * g.width),
        .map = {.data = grad_input,
                .height = int(g.height),
                .width = int(g.width),
                .channels = int(g.in_channels),
                .bias = nullptr,
                .bias_stride = 0,
                .nonfinite = a.nonfinite},
        .lists = lists,
        .oversized = oversized,
        .grad_output = grad_output,
        .row_vecs = uint32_t(g.out_channels / kVecSize<typename M::element>),
        .deform_channels = int(g.deform_channels())};
    launch_persistent(grad_input_kernel<M>, f, f.grid.tiles(),
                      M::kMathThreads + M::kProducerThreads, sizeof(GradInputSmem<M>), stream);
    check(cudaGetLastError(), "fused grad_input");
  });
}

}  // namespace dcnv2::cuda
