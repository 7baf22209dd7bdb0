// SPDX-License-Identifier: BSD-3-Clause
// Products whose rows are the pixels of a map: the forward and the gradient of the input. Some of a
// block's warps fill rows into a ring of shared memory, the others multiply them by the packed weight
// and store the result.
#pragma once

#include "cuda/tensor_core/tile_config.cuh"
#include "cuda/tensor_core/pack_weight.cuh"
#include "cuda/tensor_core/pixel_order.cuh"
#include "cuda/tensor_core/mma/pipeline.cuh"

namespace dcnv2::cuda {

constexpr int kFillBarrier = 1, kMultiplyBarrier = 2;

// The map that a product writes, [.., height, width, channels], and what is added to each pixel.
struct ProductMap {
  void* data;
  int height, width, channels;
  const void* bias;  // [channels], bias_stride elements apart; may be null
  int64_t bias_stride;

  template <class T>
  __device__ float bias_of(int channel) const {
    return bias == nullptr ? 0 : widen(static_cast<const T*>(bias)[channel * bias_stride]);
  }
};

// How the result is cut into tiles.
struct TileGrid {
  PackedWeight packed;
  const char* weight;  // packed
  int pixels, pixel_tiles, col_tiles;

  TileGrid(const PackedWeight& packed, const void* weight, int64_t pixels, int rows, int cols)
      : packed(packed),
        weight(static_cast<const char*>(weight)),
        pixels(int(pixels)),
        pixel_tiles(int(ceil_div(pixels, rows))),
        col_tiles(packed.padded_cols / cols) {}
  __host__ __device__ int tiles() const { return pixel_tiles * col_tiles * packed.groups; }
};

// One tile of the result: its first pixel, its first column within its weight group.
struct Tile {
  int row0, col0, group;
};
template <class M>
__device__ __forceinline__ Tile tile_at(const TileGrid& grid, int index) {
  // Tiles of the same pixels run side by side, so that they find what is sampled in the L2 cache.
  const int across = grid.col_tiles * grid.packed.groups;
  return {index / across * M::kTileRows, index % grid.col_tiles * M::kTileCols,
          index % across / grid.col_tiles};
}

template <class M>
struct TileRing {
  static constexpr int kRows = M::kTileRows, kCols = M::kTileCols;
  static constexpr int kStages = M::kStages, kPartBytes = kRows * kRowBytes;

  char a[kStages][M::kParts * kPartBytes];
  char b[kStages][M::kParts * kCols * kRowBytes];
  RowPixels<kRows> fill_rows, multiply_rows;  // each side has its own: they work on different tiles
  alignas(kChunkBytes) float bias[kCols];     // of the tile that is multiplied
  Barrier full[kStages], empty[kStages];
};

// The pixels of a tile for the filling threads; they meet before and after.
template <class M>
__device__ __forceinline__ void begin_tile(TileRing<M>& ring, const TileGrid& grid,
                                           const ProductMap& map, int row0, int thread) {
  named_barrier(kFillBarrier, M::kFillThreads);
  ring.fill_rows.fill(row0, grid.pixels, map.height, map.width, thread, M::kFillThreads);
  named_barrier(kFillBarrier, M::kFillThreads);
}

// The multiplying threads: every step of every tile of this block.
template <class M>
__device__ void multiply_tiles(const TileGrid& grid, const ProductMap& map, TileRing<M>& ring) {
  using T = typename M::element;
  const int thread = threadIdx.x;
  M product;
  RingPosition<TileRing<M>::kStages> at;
  Release<M, TileRing<M>::kStages> release{ring.empty};
  for (int t = blockIdx.x; t < grid.tiles(); t += gridDim.x) {
    const Tile tile = tile_at<M>(grid, t);
    named_barrier(kMultiplyBarrier, M::kThreads);  // the last tile is stored
    ring.multiply_rows.fill(tile.row0, grid.pixels, map.height, map.width, thread, M::kThreads);
    const int columns = grid.packed.cols - tile.col0;  // from the tile's first on
    for (int column = thread; column < M::kTileCols; column += M::kThreads) {
      ring.bias[column] =
          column < columns ? map.template bias_of<T>(tile.group * grid.packed.cols + tile.col0 + column) : 0;
    }
    named_barrier(kMultiplyBarrier, M::kThreads);

    product.clear();
    for (int step = 0; step < grid.packed.steps(); ++step) {
      ring.full[at.stage].wait(at.parity);
      M::see_stores();
      product.multiply(ring.a[at.stage], ring.b[at.stage], thread);
      release.multiplied(at.stage);
      at.advance();
    }
    release.finish(product);

#pragma unroll
    for (int i = 0; i < M::kThreadRows; ++i) {
      const int row = M::row(thread, i);
      if (!ring.multiply_rows.exists(row)) continue;
      const Pixel p = ring.multiply_rows.pixel(row);
      T* to = static_cast<T*>(map.data) +
              ((int64_t(p.n) * map.height + p.y) * map.width + p.x) * map.channels +
              tile.group * grid.packed.cols + tile.col0;
#pragma unroll
      for (int j = 0; j < M::kThreadChunks; ++j) {
        const int column = M::chunk_column(thread, j);
        if (column >= columns) break;
        float v[kVector<T>];
        take_chunk(product, i, j, v);
#pragma unroll
        for (int k = 0; k < kVector<T>; ++k) v[k] += ring.bias[column + k];
        *reinterpret_cast<uint4*>(to + column) = make_chunk(v, T{});
      }
    }
  }
}

}  // namespace dcnv2::cuda
