// SPDX-License-Identifier: BSD-3-Clause
// GEMMs whose rows are the pixels of a map: the forward and the gradient of the input. Producer
// warps fill the stages of a pipeline, math warps multiply them by the packed weight and store the
// result.
#pragma once

#include "cuda/tensor_core/kernel_launch.cuh"
#include "cuda/tensor_core/mma/operands.cuh"
#include "cuda/tensor_core/mma/pipeline.cuh"
#include "cuda/tensor_core/packed_weight.h"
#include "cuda/tensor_core/pixel_order.cuh"

namespace dcnv2::cuda {

// The result, [.., height, width, channels], and the bias that is added to each pixel.
struct OutputMap {
  void* data;
  int height, width, channels;
  const void* bias;  // [channels], bias_stride elements apart; may be null
  int64_t bias_stride;
  uint32_t* nonfinite;  // set if a value is not finite; may be null

  template <class T>
  __device__ float bias_of(int channel) const {
    return bias == nullptr ? 0 : widen(static_cast<const T*>(bias)[channel * bias_stride]);
  }
};

// Partition of the result into tiles.
struct TileGrid {
  PackedWeight packed;
  const char* weight;  // packed
  int pixels, pixel_tiles, col_tiles;

  __host__ __device__ int tiles() const { return pixel_tiles * col_tiles * packed.groups; }
};
template <class M>
TileGrid tile_grid(const PackedWeight& packed, const void* weight, int64_t pixels) {
  return {.packed = packed,
          .weight = static_cast<const char*>(weight),
          .pixels = int(pixels),
          .pixel_tiles = int(ceil_div(pixels, M::kTileRows)),
          .col_tiles = packed.padded_cols / M::kTileCols};
}

// A tile of the result: its first pixel, and its first column within its weight group.
struct OutputTile {
  int row0, col0, group;
};
template <class M>
__device__ __forceinline__ OutputTile output_tile_at(const TileGrid& grid, int index) {
  // Tiles of the same pixels are neighbours in launch order, so they find their samples in L2.
  const int across = grid.col_tiles * grid.packed.groups;
  return {index / across * M::kTileRows, index % grid.col_tiles * M::kTileCols,
          index % across / grid.col_tiles};
}

template <class M>
struct PipelineStorage {
  static constexpr int kRows = M::kTileRows, kCols = M::kTileCols;
  static constexpr int kStages = M::kStages, kSplitBytes = kRows * kRowBytes;

  char a[kStages][M::kSplits * kSplitBytes];
  char b[kStages][M::kSplits * kCols * kRowBytes];
  RowPixels<kRows> producer_rows,
      consumer_rows;  // they may work on different tiles
  alignas(kVec16Bytes) float bias[kCols];  // of the math warps' tile
  Barrier full[kStages], empty[kStages];
};

// Writes the pixels of a tile for the producers, between two barriers.
template <class M>
__device__ __forceinline__ void load_tile_pixels(PipelineStorage<M>& pipeline, const TileGrid& grid,
                                                 const OutputMap& map, int row0, int thread) {
  named_barrier(kProducerBarrier, M::kProducerThreads);
  pipeline.producer_rows.fill(row0, grid.pixels, map.height, map.width, thread,
                              M::kProducerThreads);
  named_barrier(kProducerBarrier, M::kProducerThreads);
}

// Math warps: main loop and epilogue of every tile of this block.
template <class M>
__device__ void math_tiles(const TileGrid& grid, const OutputMap& map,
                           PipelineStorage<M>& pipeline) {
  using T = typename M::element;
  const int thread = threadIdx.x;
  M product;
  PipelineState<PipelineStorage<M>::kStages> state;
  ConsumerRelease<M, PipelineStorage<M>::kStages> release{pipeline.empty};
  for (int t = blockIdx.x; t < grid.tiles(); t += gridDim.x) {
    const OutputTile tile = output_tile_at<M>(grid, t);
    named_barrier(kMathBarrier, M::kMathThreads);  // every warp has stored the previous tile
    pipeline.consumer_rows.fill(tile.row0, grid.pixels, map.height, map.width, thread,
                                M::kMathThreads);
    const int columns = grid.packed.cols - tile.col0;  // left from the tile's first
    for (int column = thread; column < M::kTileCols; column += M::kMathThreads) {
      pipeline.bias[column] =
          column < columns
              ? map.template bias_of<T>(tile.group * grid.packed.cols + tile.col0 + column)
              : 0;
    }
    named_barrier(kMathBarrier, M::kMathThreads);

    product.clear();
    for (int step = 0; step < grid.packed.steps(); ++step) {
      pipeline.full[state.stage].wait(state.phase);
      M::fence_proxy_async();
      product.multiply(pipeline.a[state.stage], pipeline.b[state.stage], thread);
      release.mma_issued(state.stage);
      state.advance();
    }
    release.finish(product);

#pragma unroll
    for (int i = 0; i < M::kThreadRows; ++i) {
      const int row = M::row(thread, i);
      if (!pipeline.consumer_rows.exists(row)) continue;
      const Pixel p = pipeline.consumer_rows.pixel(row);
      T* to = static_cast<T*>(map.data) +
              ((int64_t(p.n) * map.height + p.y) * map.width + p.x) * map.channels +
              tile.group * grid.packed.cols + tile.col0;
#pragma unroll
      for (int j = 0; j < M::kThreadVecs; ++j) {
        const int column = M::vec_column(thread, j);
        if (column >= columns) break;
        float v[kVecSize<T>];
        read_sums(product, i, j, v);
#pragma unroll
        for (int k = 0; k < kVecSize<T>; ++k) v[k] += pipeline.bias[column + k];
        if (map.nonfinite != nullptr && !all_finite(v)) *map.nonfinite = 1;
        *reinterpret_cast<uint4*>(to + column) = make_vec16(v, T{});
      }
    }
  }
}

// The kernel of such a GEMM, persistent: producers(thread) fills the pipeline for every tile of the
// block.
template <class M, class Producers>
__device__ __forceinline__ void run_gemm(const TileGrid& grid, const OutputMap& map,
                                         PipelineStorage<M>& pipeline, Producers producers) {
  init_pipeline(pipeline.full, pipeline.empty, M::kProducerThreads / 32 * kArrivals,
                M::kMathThreads / 32 * kArrivals);
  run_warp_roles<M>([&] { math_tiles<M>(grid, map, pipeline); }, producers);
}

}  // namespace dcnv2::cuda
