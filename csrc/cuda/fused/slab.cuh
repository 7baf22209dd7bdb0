// SPDX-License-Identifier: BSD-3-Clause
// The operand tiles of the fused kernels in shared memory: rows of 128 bytes, in which the eight
// 16-byte chunks of row r are permuted by r mod 8. ldmatrix reads such rows without bank conflicts,
// and wgmma knows the permutation as its 128-byte swizzle.
#pragma once

#include "../chunk.cuh"
#include "ptx.cuh"

namespace dcnv2::cuda {

constexpr int kRowBytes = 128;
constexpr int kTileAlignment = 8 * kRowBytes;  // of a tile, for the permutation to begin at its row 0
constexpr int kChunks = kRowBytes / kChunkBytes;

template <class T>
constexpr int kSlab = kRowBytes / int(sizeof(T));  // elements of a row: 64 halves or 32 floats

// Byte offset of a chunk of a row in a tile.
__device__ __forceinline__ int chunk_offset(int row, int chunk) {
  return row * kRowBytes + ((chunk ^ (row & 7)) << 4);
}

// A chunk of floats as two parts of 11 bits each. Of what is infinite the low part is NaN.
__device__ __forceinline__ void split_tf32(const float (&v)[4], float (&high)[4], float (&low)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    high[i] = __uint_as_float(to_tf32(v[i]));
    low[i] = __uint_as_float(to_tf32(v[i] - high[i]));
  }
}

// A tile's columns stand in an order in which each multiplying thread, which has pairs of every eighth
// column, has whole chunks: the place of a column.
template <class T>
__host__ __device__ constexpr int column_place(int column) {
  constexpr int kBlock = 4 * kVector<T>;  // of the four lanes that share a row of a product
  const int within = column % kBlock, lane = within / kVector<T>, pair = within % kVector<T> / 2;
  return column - within + 8 * pair + 2 * lane + within % 2;
}

}  // namespace dcnv2::cuda
