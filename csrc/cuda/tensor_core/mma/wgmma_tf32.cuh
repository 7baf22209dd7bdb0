// SPDX-License-Identifier: BSD-3-Clause
// Hopper's warpgroup products of floats, of which the unit takes 11 bits: m64n128k8 and m64n64k8. With kParts 1
// the operands are rounded to that; with 2 they come in two parts, high and low, and three of the four products
// give the accuracy of float32. Operands lie along the depth. As in wgmma.cuh, useful from sm_90a on.
#pragma once

#include "cuda/tensor_core/mma/mma_sync.cuh"

namespace dcnv2::cuda {

// The sums of one warpgroup, or of two that share the rows. What a step gives is summed up apart, the small products
// first, and added to the rest by the threads: the unit's own sums are cut off, not rounded.
template <int kRows, int kCols, int kPartsOfOperands, int kWarpgroupCount>
struct WgmmaFloatSums {
  using element = float;
  static constexpr int kParts = kPartsOfOperands;
  static constexpr bool kRounded = true;
  static constexpr bool kBulkCopies = true;
  static constexpr int kTileRows = kRows, kTileCols = kCols;
  static constexpr int kThreads = 128 * kWarpgroupCount, kFillThreads = 512 / kWarpgroupCount;
  static constexpr bool kHere = kWarpgroups;
  static constexpr int kDown = kRows / 64 / kWarpgroupCount;
  static constexpr int kBegin = kWarpgroupCount == 1 ? 96 : 128;
  static constexpr int kRegisters = 160, kFillRegisters = kWarpgroupCount == 1 ? 80 : 96;
  static_assert(kThreads * (kRegisters - kBegin) <= kFillThreads * (kBegin - kFillRegisters));
  static __device__ void take_registers() { resize_registers<kRegisters, true>(); }
  static __device__ void give_registers() { resize_registers<kFillRegisters, false>(); }

  float sum[kDown][kCols / 2] = {};

  __device__ void clear() {
    for (auto& down : sum) {
      for (float& v : down) v = 0;
    }
  }
  __device__ void add(int down, float (&step)[kCols / 2]) {
    keep_behind(step);
#pragma unroll
    for (int i = 0; i < kCols / 2; ++i) sum[down][i] += step[i];
  }

  static __device__ void see_stores() { fence_stores(); }

  static constexpr bool kInFlight = false;
  __device__ void finish() {}

  static constexpr int kThreadRows = 2 * kDown, kThreadPairs = kCols / 8;
  static constexpr int kThreadChunks = kThreadPairs * 2 / kVector<float>;
  __device__ static int row(int thread, int i) {
    return i / 2 * 64 + thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8;
  }
  __device__ static int column(int thread) { return thread % 4 * 2; }
  __device__ static int chunk_column(int thread, int j) { return (j * 4 + thread % 4) * kVector<float>; }
  __device__ float2 pair(int i, int j) const {
    const float(&down)[kCols / 2] = sum[i / 2];
    return {down[j * 4 + i % 2 * 2], down[j * 4 + i % 2 * 2 + 1]};
  }
};

// Both operands in shared memory, their parts one behind the other.
template <int kRows, int kCols, int kPartsOfOperands>
struct WgmmaFloat : WgmmaFloatSums<kRows, kCols, kPartsOfOperands, kRows / 64> {
  using Sums = WgmmaFloatSums<kRows, kCols, kPartsOfOperands, kRows / 64>;
  static constexpr bool kTurned = false;
  static constexpr int kStages = kRows == 64 ? 4 : Sums::kParts * kCols > 128 ? 2 : 3;  // as many as there is room for

  __device__ void multiply(const char* tile_a, const char* tile_b, int thread) {
    const uint32_t a = shared_address(tile_a) + thread / 128 * 64 * kRowBytes, b = shared_address(tile_b);
    float step[kCols / 2] = {};
    wgmma_fence();
    if constexpr (Sums::kParts == 2) {
      multiply_parts(step, a + kRows * kRowBytes, b);
      multiply_parts(step, a, b + kCols * kRowBytes);
    }
    multiply_parts(step, a, b);
    wgmma_commit();
    wgmma_wait<0>();
    this->add(0, step);
  }
  static __device__ void multiply_parts(float (&step)[kCols / 2], uint32_t a, uint32_t b) {
#pragma unroll
    for (int byte = 0; byte < kRowBytes; byte += 32) {
      wgmma<float, Major::kDepth, Major::kDepth>(step, tile_descriptor(a + byte, 0),
                                                 tile_descriptor(b + byte, 0));
    }
  }
};

// The rows' operand comes as plain floats, which the multiplying threads take into registers and split there;
// that of the columns as above.
template <int kRows, int kPartsOfOperands>
struct WgmmaFloatRows : WgmmaFloatSums<kRows, 64, kPartsOfOperands, 1> {
  using Sums = WgmmaFloatSums<kRows, 64, kPartsOfOperands, 1>;
  static constexpr bool kTurned = true;

  // A [kRows, slab] as slab.cuh lays it out.
  __device__ void multiply(const char* tile_a, const char* tile_b, int thread) {
    static_assert(kRows == 64);
    const int row = thread / 32 * 16 + thread % 16, chunk = thread % 32 / 16;
    const uint32_t a = shared_address(tile_a), b = shared_address(tile_b);
    multiply_units<1>(b, 64 * kRowBytes, [&](int, int depth, uint32_t (&v)[4]) {
      load_matrices(v, a + chunk_offset(row, depth / kVector<float> + chunk));
    });
  }

  // A [kDepth, kRows] in slabs of [kDepth, 128 bytes], whose rows stand where slab_row() says, so that those which
  // the four lanes of a quad read lie in different banks; B in tiles of a slab's depth, kPartBytes a part.
  static constexpr int kDepth = Sums::kFillThreads / kChunks, kSlabBytes = kDepth * kRowBytes;
  static __device__ int slab_row(int k) { return (k & ~7) | (k & 3) << 1 | (k >> 2 & 1); }
  template <int kPartBytes>
  __device__ void multiply_turned(const char* slabs_a, const char* tiles_b, int thread) {
    const int line = thread / 32 * 16 + thread % 32 / 4, within = line % kSlab<float>;
    const uint32_t a = shared_address(slabs_a) + line / kSlab<float> * kSlabBytes +
                       chunk_offset(slab_row(thread % 4), within / kVector<float>) +
                       within % kVector<float> * int(sizeof(float));
    constexpr uint32_t kEightLines = 2 * kChunkBytes;  // two chunks further, whatever the permutation
    multiply_units<kDepth / kSlab<float>>(
        shared_address(tiles_b), kPartBytes, [&](int down, int depth, uint32_t (&v)[4]) {
          const uint32_t at = a + down * 64 / kSlab<float> * kSlabBytes + depth * kRowBytes;
          const uint32_t deeper = (at ^ kChunkBytes) + kRowBytes;
          v[0] = load_shared_word(at);
          v[1] = load_shared_word(at ^ kEightLines);
          v[2] = load_shared_word(deeper);
          v[3] = load_shared_word(deeper ^ kEightLines);
        });
  }

  // One tile of B after the other, each times all rows. load(down, depth, v): what this thread has of A at eight of
  // the depth from there on. While some products run, the operands of the next are taken.
  template <int kTiles, class Load>
  __device__ __forceinline__ void multiply_units(uint32_t b, int part_bytes, Load load) {
    constexpr int kTileBytes = 64 * kRowBytes, kEights = kSlab<float> / 8;  // steps of a product's depth
    constexpr int kAtOnce = kEights / 2, kHalves = 2 * kTiles * Sums::kDown;
    uint32_t high[2][kAtOnce][4], low[2][kAtOnce][4];
    auto take = [&](int half) {
      const int tile = half / 2 / Sums::kDown, down = half / 2 % Sums::kDown;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        uint32_t v[4];
        load(down, tile * kSlab<float> + (half % 2 * kAtOnce + i) * 8, v);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          split_tf32<Sums::kParts>(__uint_as_float(v[j]), high[half % 2][i][j], low[half % 2][i][j]);
        }
      }
    };
    float step[32];
    auto multiply_parts = [&](const uint32_t (&a)[kAtOnce][4], uint32_t at) {
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) wgmma_rows(step, a[i], tile_descriptor(at + i * 32, 0));
    };
    take(0);
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      if (half % 2 == 0) {
        for (float& v : step) v = 0;
      }
      const uint32_t at = b + half / 2 / Sums::kDown * kTileBytes + half % 2 * kAtOnce * 32;
      wgmma_fence();
      if constexpr (Sums::kParts == 2) {
        multiply_parts(low[half % 2], at);
        multiply_parts(high[half % 2], at + part_bytes);
      }
      multiply_parts(high[half % 2], at);
      wgmma_commit();
      if (half + 1 < kHalves) {
        wgmma_wait<1>();  // for those whose operands give way
        take(half + 1);
      }
      if (half % 2 == 1) {
        wgmma_wait<0>();
        this->add(half / 2 % Sums::kDown, step);
      }
    }
  }
};

}  // namespace dcnv2::cuda
