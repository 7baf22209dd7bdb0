// SPDX-License-Identifier: BSD-3-Clause
// The forward as one implicit GEMM: output[pixels, outputs] = samples[pixels, taps * channels] *
// weight^T. Producer warps sample straight into shared memory and math warps multiply, so columns
// never go through global memory.
#pragma once

#include "cuda/tensor_core/bilinear_producer.cuh"
#include "cuda/tensor_core/mma/instruction.h"
#include "cuda/tensor_core/tiles.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Types

struct ForwardArgs {
  ConvArgs conv;
  TileGrid grid;
  OutputMap map;
  const char* zeros;  // [in_channels]
};

// ---- Shared memory

template <class M, bool kShareAddresses>
struct ForwardSmem {
  PipelineStorage<M> pipeline;
  // Of the taps of a table batch; or of the tile
  std::conditional_t<kShareAddresses, AddressTable<SampleKind::kWeights, M::kTileRows>,
                     SampleStarts<M::kTileRows>>
      table;
};

// ---- Producer warps

// Each group of eight threads samples the same rows at every step. With kShareAddresses no K tile
// mixes two deform groups, so the sample addresses of a row are looked up once, in a table in
// shared memory; otherwise each thread computes the address of its own 16-byte vector, from an
// offset that it has loaded at the tap before.
template <class M, bool kShareAddresses>
__device__ void producer_warps(const ForwardArgs& f, ForwardSmem<M, kShareAddresses>& shared,
                               int thread) {
  // Types
  using T = typename M::element;
  using Table = decltype(shared.table);
  using Storage = PipelineStorage<M>;
  constexpr int kThreads = M::kProducerThreads, kRowStep = kThreads / kRowVecs;
  constexpr int kRowsPerThread = M::kTileRows / kRowStep;

  const ConvArgs& a = f.conv;
  const Source source = make_source<T>(a, f.zeros);
  const PackedWeight& packed = f.grid.packed;
  const int taps = packed.taps, depth = packed.depth, k_tiles = packed.k_tiles;
  const int deform_channels = int(a.g.deform_channels());
  Storage& pipeline = shared.pipeline;
  SampleProducer<M, kRowsPerThread, kRowStep * kRowBytes, Storage::kSplitBytes, false> producer;
  PipelineState<Storage::kStages> state;

  // This thread's rows and 16-byte vector, and shared memory by its addresses
  const int row0 = thread / kRowVecs;
  const SharedAddresses smem(&shared);
  const uint32_t samples = smem(pipeline.a) + swizzled_offset(row0, thread % kRowVecs);
  const uint32_t full = smem(pipeline.full), empty = smem(pipeline.empty);
  const uint32_t table = smem(&shared.table);
  const int vec_channel = thread % kRowVecs * kVecSize<T>;
  const bool copies_weight = in_first_warp(thread);

  auto fill_table = [&](int tap0, int table_taps, int deform_group) {
    if constexpr (kShareAddresses) {
      named_barrier(kProducerBarrier, kThreads);  // every thread has read the previous table
      shared.table.template fill<kThreads>(
          a, source, table_taps, thread, [&](int tap, int row) -> SampleId {
            return {pipeline.producer_rows.pixel(row), tap0 + tap, deform_group,
                    pipeline.producer_rows.exists(row)};
          });
    } else {
      for (int row = thread; row < M::kTileRows; row += kThreads) {
        if (pipeline.producer_rows.exists(row)) {
          shared.table.put(a, row, pipeline.producer_rows.pixel(row));
        }
      }
    }
    named_barrier(kProducerBarrier, kThreads);
  };

  // One stage: the thread's rows of samples and, by one warp, the tile of the weight
  auto produce_stage = [&](const char* weight, auto address) {
    producer.step(
        [&](auto& corners, int item) { corners.load(row0 + item * kRowStep, kRowStep, address); },
        [&] {
          Barrier::wait(empty + state.stage * int(sizeof(Barrier)), state.phase ^ 1);
          if (copies_weight) {
            copy_tile<M>(pipeline.b[state.stage], weight, sizeof(pipeline.b[0]),
                         pipeline.full[state.stage]);
          }
        },
        samples + state.stage * int(sizeof(pipeline.a[0])),
        full + state.stage * int(sizeof(Barrier)));
    state.advance();
  };

  // The stages of one K tile: some taps, as many as the table holds
  auto produce_taps = [&](const OutputTile& tile, int first_channel, int k_tile, int tap0,
                          int table_taps) {
    const int within = k_tile * kRowElements<T> + vec_channel;  // channel of the weight group
    const bool valid = within < depth;
    const int64_t byte = valid ? int64_t(first_channel + within) * int(sizeof(T)) : 0;
    const char* weight = f.grid.weight + packed.tile(tile.group, k_tile * taps + tap0, tile.col0);
    // Without a table: the vector's deform group, and the next tap's offsets of the thread's rows
    const int deform_group = (first_channel + within) / deform_channels;
    RawSample ahead[kRowsPerThread] = {};
    auto prefetch = [&](int item, int tap) {
      const int row = row0 + item * kRowStep;
      if constexpr (!kShareAddresses) {
        if (valid && tap < taps && pipeline.producer_rows.exists(row))
          ahead[item] = shared.table.prefetch(a, row, deform_group * taps + tap);
      }
    };
#pragma unroll
    for (int item = 0; item < kRowsPerThread; ++item) prefetch(item, 0);
    for (int tap = 0; tap < table_taps; ++tap, weight += packed.step_bytes()) {
      produce_stage(weight, [&](int row) {
        SampleAddress r;
        if constexpr (kShareAddresses) {
          r = Table::at(table, tap, row);
          if (!valid) r = {source.zeros, 0, 0, r.weight};
        } else {
          const int item = (row - row0) / kRowStep;
          const RawSample raw = ahead[item];
          prefetch(item, tap + 1);
          r = consume_address<SampleKind::kWeights>(
              a, source,
              {pipeline.producer_rows.pixel(row), tap, deform_group,
               valid && pipeline.producer_rows.exists(row)},
              raw);
        }
        r.at += byte;
        return r;
      });
    }
  };

  // Tile scheduler
  for (int t = blockIdx.x; t < f.grid.tiles(); t += gridDim.x) {
    const OutputTile tile = output_tile_at<M>(f.grid, t);
    const int first_channel = tile.group * depth;
    load_tile_pixels(pipeline, f.grid, f.map, tile.row0, thread);

    // The K tiles of one deform group at a time, since they share a table
    for (int begin = 0, end = k_tiles; begin < k_tiles; begin = end) {
      const int deform_group = (first_channel + begin * kRowElements<T>) / deform_channels;
      if (kShareAddresses) {
        const int rest = (deform_group + 1) * deform_channels - first_channel;
        end = min(k_tiles, int(ceil_div(rest, kRowElements<T>)));
      }
      const int max_taps = kShareAddresses ? kTableTaps : taps;
      for (int tap0 = 0; tap0 < taps; tap0 += max_taps) {
        const int table_taps = min(max_taps, taps - tap0);
        fill_table(tap0, table_taps, deform_group);
        for (int k_tile = begin; k_tile < end; ++k_tile) {
          produce_taps(tile, first_channel, k_tile, tap0, table_taps);
        }
      }
    }
    producer.commit_pending();
  }
}

// ---- Kernel

template <class M, bool kShareAddresses>
__global__ void __launch_bounds__(M::kMathThreads + M::kProducerThreads, 1)
    forward_kernel(__grid_constant__ const ForwardArgs f) {
  if constexpr (M::kSupported) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<ForwardSmem<M, kShareAddresses>*>(raw);
    // Barriers, math warps and their epilogue: tiles.cuh
    run_gemm<M>(f.grid, f.map, shared.pipeline,
                [&](int thread) { producer_warps<M, kShareAddresses>(f, shared, thread); });
  }
}

// ---- Launch

template <class M, bool kShareAddresses>
void launch(const ConvArgs& a, const PackedWeight& packed, const void* weight,
            cudaStream_t stream) {
  const ForwardArgs f{
      .conv = a,
      .grid = tile_grid<M>(packed, weight, a.g.out_pixels()),
      .map = {.data = a.output,
              .height = int(a.g.out_height),
              .width = int(a.g.out_width),
              .channels = int(a.g.out_channels),
              .bias = a.bias,
              .bias_stride = a.bias_stride,
              .nonfinite = a.nonfinite},
      .zeros = static_cast<const char*>(weight) + packed.count() * sizeof(typename M::element),
  };
  launch_persistent(forward_kernel<M, kShareAddresses>, f, f.grid.tiles(),
                    M::kMathThreads + M::kProducerThreads, sizeof(ForwardSmem<M, kShareAddresses>),
                    stream);
  check(cudaGetLastError(), "fused forward");
}

}  // namespace

template <class Instruction>
void launch_fused_forward(const ConvArgs& a, const PackedWeight& packed, const void* weight,
                          bool share_addresses, cudaStream_t stream) {
  if (share_addresses) {
    return dispatch_gemm_tile(Instruction{}, Int<128>{}, a, packed.tile_cols, [&](auto product) {
      launch<typename decltype(product)::type, true>(a, packed, weight, stream);
    });
  }
  // tile_cols returns 64 here
  dispatch_gemm_tile(Instruction{}, Int<64>{}, a, packed.tile_cols, [&](auto product) {
    using M = typename decltype(product)::type;
    if constexpr (M::kTileCols == 64) launch<M, false>(a, packed, weight, stream);
  });
}

}  // namespace dcnv2::cuda
