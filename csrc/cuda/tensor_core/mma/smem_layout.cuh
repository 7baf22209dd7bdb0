// SPDX-License-Identifier: BSD-3-Clause
// Layout of operand tiles in shared memory: rows of 128 bytes, in which the eight 16-byte vectors
// of row r are permuted by r mod 8. This is wgmma's 128-byte swizzle, and ldmatrix reads it without
// bank conflicts.
#pragma once

#include "cuda/common/vec16.cuh"
#include "cuda/tensor_core/mma/ptx.cuh"
#include "cuda/tensor_core/packed_weight.h"

namespace dcnv2::cuda {

constexpr int kTileAlignment =
    8 * kRowBytes;  // of a tile, for the permutation to begin at its row 0
constexpr int kRowVecs = kRowBytes / kVec16Bytes;

template <class T>
constexpr int kRowElements =
    kRowBytes / int(sizeof(T));  // elements of a row: 64 halves or 32 floats

// Byte offset of a 16-byte vector of a row.
__device__ __forceinline__ int swizzled_offset(int row, int vec) {
  return row * kRowBytes + ((vec ^ (row & 7)) << 4);
}

// Splits a float into what the tensor cores read of it. kSplits 1: the nearest number of 11 bits.
// kSplits 2: 11 bits, and the rest, of which 11 bits count. A NaN may vanish from the high part and
// is then in the low part; an infinity leaves a NaN there.
template <int kSplits>
__device__ __forceinline__ void split_tf32(float v, uint32_t& high, uint32_t& low) {
  if constexpr (kSplits == 1) {
    high = to_tf32(v);
  } else {
    constexpr uint32_t kUnseen = 13;  // bits
    high = (__float_as_uint(v) + (1u << (kUnseen - 1))) & ~0u << kUnseen;
    low = __float_as_uint(v - __uint_as_float(high));
  }
}
template <int kSplits>
__device__ __forceinline__ void split_tf32(const float (&v)[4], uint4& high, uint4& low) {
  split_tf32<kSplits>(v[0], high.x, low.x);
  split_tf32<kSplits>(v[1], high.y, low.y);
  split_tf32<kSplits>(v[2], high.z, low.z);
  split_tf32<kSplits>(v[3], high.w, low.w);
}

// 32-bit shared-memory addresses, as offsets from one base register.
struct SharedAddresses {
  const char* start;
  uint32_t base;

  __device__ explicit SharedAddresses(const void* shared)
      : start(static_cast<const char*>(shared)), base(opaque_address(shared_address(shared))) {}
  __device__ uint32_t operator()(const void* p) const {
    return base + uint32_t(static_cast<const char*>(p) - start);
  }
};

// Where a column of B is stored. An mma leaves each thread pairs of every eighth column; in this
// order of columns those pairs form whole 16-byte vectors.
template <class T>
__host__ __device__ constexpr int column_place(int column) {
  constexpr int kBlock = 4 * kVecSize<T>;  // of the four lanes that share a row of a product
  const int within = column % kBlock, lane = within / kVecSize<T>, pair = within % kVecSize<T> / 2;
  return column - within + 8 * pair + 2 * lane + within % 2;
}

}  // namespace dcnv2::cuda
