// SPDX-License-Identifier: BSD-3-Clause
// grad_offset and grad_mask in the epilogue of a GEMM. Math warps multiply grad_output by the
// weight of a tap, which is the gradient of every sample ("columns"). Epilogue warps
// (offset_mask_epilogue.cuh) take the dot products of those with the corners of the samples, add
// them up over the channels of a deform group, and combine them by the derivatives of the
// interpolation. A block keeps grad_output of its pixels in shared memory; the first math warp
// streams the weight. Where shared memory has no room for grad_output of all weight groups, several
// blocks share a tile of pixels, and their partial sums are added up in order.
#pragma once

#include <bit>

#include "cuda/tensor_core/kernel_launch.cuh"
#include "cuda/tensor_core/mma/instruction.h"
#include "cuda/tensor_core/offset_mask_epilogue.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Tile scheduler

// Calls visit(tile) for every tile, in the order of math and epilogue warps, and
// begin_table(group, tap0, taps) before the taps whose sample addresses one table holds.
template <class S, class BeginTable, class F>
__device__ __forceinline__ void visit_tiles(const GradOffsetArgs& f, BeginTable begin_table,
                                            F visit) {
  ColumnTile at{};
  for (at.group = 0; at.group < f.groups; ++at.group) {
    const ChannelTiles<S::kGrouped> tiles(f, at.group);
    if (S::kGrouped && tiles.count == 0) continue;
    for (int tap0 = 0; tap0 < f.packed.taps; tap0 += kTableTaps) {
      const int end = min(tap0 + kTableTaps, f.packed.taps);
      begin_table(at.group, tap0, end - tap0);
      for (at.tap = tap0; at.tap < end; ++at.tap) {
        WeightGroupTile<S::kGrouped> place = tiles.first;
        for (int i = 0; i < tiles.count; ++i, ++at.index) {
          at.channel = (tiles.begin + i) * S::kCols;
          at.weight_group = place.group;
          at.last = i == tiles.count - 1;
          visit(at);
          place.advance(f.tiles_per_weight_group);
        }
      }
    }
  }
}

// ---- Math warps

template <class S>
__device__ void math_warps(const GradOffsetArgs& f, S& shared) {
  using M = typename S::M;
  using T = typename M::element;
  const int thread = threadIdx.x;
  const int grad_tiles = S::kGrouped ? f.block_groups * f.k_tiles : f.k_tiles,
            first_group = S::kGrouped ? int(blockIdx.y) * f.block_groups : 0;
  // Weight loads: the first warp runs f.stages - 1 steps ahead of the products. The next step to
  // load:
  int k_tile = 0, tap = 0, group = 0;
  int within = 0;  // the tile of the deform group
  ChannelTiles<S::kGrouped> tiles(f, group);
  auto skip_empty = [&] {
    while (group < f.groups && (tiles = ChannelTiles<S::kGrouped>(f, group)).count == 0) ++group;
  };
  skip_empty();
  WeightGroupTile<S::kGrouped> place = tiles.first;
  PipelineState<S::kStages> load_state;
  const bool prefetches = in_first_warp(thread);
  auto prefetch_weight = [&] {
    if (!prefetches || group == f.groups) return;
    shared.empty[load_state.stage].wait(load_state.phase ^ 1);
    copy_tile_alone<M>(
        weight_stage(shared, grad_tiles, load_state.stage),
        f.weight + f.packed.tile(first_group + place.group, k_tile * f.packed.taps + tap,
                                 place.tile * S::kCols),
        kStageBytes<M>, shared.full[load_state.stage]);
    load_state.advance(f.stages);
    if (++k_tile < f.k_tiles) return;
    k_tile = 0;
    place.advance(f.tiles_per_weight_group);
    if (++within < tiles.count) return;
    within = 0;
    place = tiles.first;
    if (++tap < f.packed.taps) return;
    tap = 0;
    ++group;
    skip_empty();
    place = tiles.first;
  };
  for (int i = 0; i < f.stages - 1; ++i) prefetch_weight();

  M product;
  shared.grad_full.wait(0);
  M::fence_proxy_async();
  PipelineState<S::kStages> state;
  ConsumerRelease<M, S::kStages> release{shared.empty};
  visit_tiles<S>(
      f, [](int, int, int) {},
      [&](const ColumnTile& tile) {
        product.clear();
        for (int k_tile = 0; k_tile < f.k_tiles; ++k_tile) {
          shared.full[state.stage].wait(state.phase);
          product.multiply(grad_tile(shared, tile.weight_group * f.k_tiles + k_tile),
                           weight_stage(shared, grad_tiles, state.stage), thread);
          release.mma_issued(state.stage);
          prefetch_weight();  // into the stage that is free by now
          __syncwarp();
          state.advance(f.stages);
        }
        release.finish(product);
        const int buffer = tile.index % 2;
        shared.column_empty[buffer].wait((tile.index / 2 & 1) ^ 1);
#pragma unroll
        for (int i = 0; i < M::kThreadRows; ++i) {
          const int row = M::row(thread, i);
#pragma unroll
          for (int j = 0; j < M::kThreadVecs; ++j) {
            const int vec = M::vec_column(thread, j) / kVecSize<T>;
            float v[kVecSize<T>];
            read_sums(product, i, j, v);
            *reinterpret_cast<uint4*>(shared.column[buffer] + column_offset<S::kRows>(row, vec)) =
                make_vec16(v, T{});
          }
        }
        arrive_for_warp(shared.column_full[buffer]);
      });
}

// ---- Epilogue warps

template <class S>
__device__ void epilogue_warps(const GradOffsetArgs& f, S& shared, int thread) {
  using M = typename S::M;
  using T = typename M::element;
  constexpr int kThreads = M::kProducerThreads, kRows = M::kTileRows;
  const ConvArgs& a = f.conv;
  OffsetMaskEpilogue<S> epilogue(f, shared, thread);
  constexpr int kRowStep = kThreads / kRowVecs;
  const int vec = thread % kRowVecs;
  const int height = int(a.g.out_height), width = int(a.g.out_width),
            outputs = int(a.g.group_out());
  shared.rows.fill(blockIdx.x * kRows, f.pixels, height, width, thread, kThreads);
  named_barrier(kProducerBarrier, kThreads);
  if constexpr (!S::kShareAddresses) {
    shared.table.fill(f, shared.rows, thread, kThreads);
    named_barrier(kProducerBarrier, kThreads);
    epilogue.prefetch_first();
  }

  // grad_output of the block's pixels, for the math warps
  const int groups = S::kGrouped ? f.block_groups : 1;
  const T* grad =
      static_cast<const T*>(a.grad_output) + (S::kGrouped ? blockIdx.y * groups * outputs : 0);
  for (int row = thread / kRowVecs; row < kRows; row += kRowStep) {
    const Pixel p = batch_pixel(f, shared.rows, row);
    const T* at = grad + ((int64_t(p.n) * height + p.y) * width + p.x) * int(a.g.out_channels);
    for (int group = 0; group < groups; ++group, at += outputs) {
      for (int k_tile = 0; k_tile < f.k_tiles; ++k_tile) {
        const int o = k_tile * kRowElements<T> + vec * kVecSize<T>;
        uint4 v{};
        if (shared.rows.exists(row) && o < outputs)
          v = load_vec16(reinterpret_cast<const char*>(at + o));
        *reinterpret_cast<uint4*>(grad_tile(shared, group * f.k_tiles + k_tile) +
                                  swizzled_offset(row, vec)) = v;
      }
    }
  }
  arrive_for_warp(shared.grad_full);

  visit_tiles<S>(
      f,
      [&](int group, int tap0, int taps) {
        epilogue.finish_tiles();
        if constexpr (S::kShareAddresses) {
          named_barrier(kProducerBarrier, kThreads);  // every thread has read the previous table
          shared.table.template fill<kThreads>(
              a, epilogue.source, taps, thread, [&](int tap, int row) -> SampleId {
                return {batch_pixel(f, shared.rows, row), tap0 + tap, group,
                        shared.rows.exists(row)};
              });
          named_barrier(kProducerBarrier, kThreads);
        }
      },
      [&](const ColumnTile& tile) { epilogue.consume_tile(tile); });
  epilogue.finish_tiles();
}

// ---- Kernel

template <class M, bool kShareAddresses, bool kGrouped>
__global__ void __launch_bounds__(M::kMathThreads + M::kProducerThreads, 1)
    grad_offset_mask_kernel(__grid_constant__ const GradOffsetArgs f) {
  if constexpr (M::kSupported) {
    // Shared memory
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<OffsetMaskSmem<M, kShareAddresses, kGrouped>*>(raw);
    constexpr int kMathArrivals = M::kMathThreads / 32 * kArrivals,
                  kEpilogueArrivals = M::kProducerThreads / 32 * kArrivals;
    // Barriers
    if (threadIdx.x == 0) {
      shared.grad_full.init(kEpilogueArrivals);
      for (int i = 0; i < 2; ++i) {
        shared.column_full[i].init(kMathArrivals);
        shared.column_empty[i].init(kEpilogueArrivals);
      }
    }
    init_pipeline(shared.full, shared.empty, kCopyArrivals<M>, kMathArrivals);
    run_warp_roles<M>([&] { math_warps(f, shared); },
                      [&](int thread) { epilogue_warps(f, shared, thread); });
  }
}

// ---- Launch

// Stages of the weight that shared memory has room for; the kernel needs at least 2.
template <class S>
int max_stages(int grad_tiles) {
  const int64_t room = shared_limit() - int64_t(shared_bytes<S>(grad_tiles, 0));
  return int(std::clamp<int64_t>(room / kStageBytes<typename S::M>, 0, S::kStages));
}

// Calls f(Type<OffsetMaskSmem<M, whether the lanes of a row share a sample, ..>>).
template <class Instruction, class F>
void dispatch_smem(const ConvArgs& a, Path path, F f) {
  dispatch_column_tile(Instruction{}, a, column_tile(a, path), [&](auto product) {
    using M = typename decltype(product)::type;
    auto grouped_or_not = [&](auto share) {
      constexpr bool kShare = decltype(share)::value;
      a.g.groups > 1 || a.merged_groups > 1 ? f(Type<OffsetMaskSmem<M, kShare, true>>{})
                                            : f(Type<OffsetMaskSmem<M, kShare, false>>{});
    };
    one_group_per_tile(a, path) ? grouped_or_not(std::true_type{})
                                : grouped_or_not(std::false_type{});
  });
}

template <class S>
void launch(const ConvArgs& a, const ImageRange& images, const PackedWeight& packed,
            const void* weight, char* columns, cudaStream_t stream) {
  using M = typename S::M;
  const int groups = S::kShareAddresses ? int(a.g.deform_groups) : 1;
  const int pixels = int(images.count * a.g.out_height * a.g.out_width);
  const int blocks = column_blocks(a), block_groups = column_block_groups(a),
            grad_tiles = block_groups * packed.k_tiles;
  const int64_t samples = blocks == 1 ? 0 : pixels * a.g.deform_groups * a.g.taps();
  const GradOffsetArgs f{
      .conv = a,
      .packed = packed,
      .weight = static_cast<const char*>(weight),
      .zeros = static_cast<const char*>(weight) + packed.count() * sizeof(typename M::element),
      .columns = columns,
      .column_bytes = ColumnSizes(a).row,
      .first_image = int(images.first),
      .pixels = pixels,
      .k_tiles = packed.k_tiles,
      .tiles_per_group = int(ceil_div(a.g.in_channels / groups, M::kTileCols)),
      .tiles_per_weight_group = int(ceil_div(a.g.group_in(), M::kTileCols)),
      .block_groups = block_groups,
      .offset_elements = 2 * samples,
      .mask_elements = samples,
      .stages = max_stages<S>(grad_tiles),
      .group_shift = std::countr_zero(uint64_t(deform_vecs(a))),
      .groups = groups,
  };
  launch_blocks(grad_offset_mask_kernel<M, S::kShareAddresses, S::kGrouped>, f,
                dim3(ceil_div(pixels, M::kTileRows), blocks), M::kMathThreads + M::kProducerThreads,
                shared_bytes<S>(grad_tiles, f.stages), stream);
  check(cudaGetLastError(), "fused grad_offset_mask");
}

}  // namespace

template <class Instruction>
int column_stages(const ConvArgs& a, Path path, int grad_tiles) {
  int stages = 0;
  dispatch_smem<Instruction>(a, path, [&](auto shared) {
    stages = max_stages<typename decltype(shared)::type>(grad_tiles);
  });
  return stages;
}

template <class Instruction>
void launch_fused_columns(const ConvArgs& a, const ImageRange& images, Path path,
                          const PackedWeight& packed, const void* weight, char* columns,
                          cudaStream_t stream) {
  dispatch_smem<Instruction>(a, path, [&](auto shared) {
    launch<typename decltype(shared)::type>(a, images, packed, weight, columns, stream);
  });
}

}  // namespace dcnv2::cuda
