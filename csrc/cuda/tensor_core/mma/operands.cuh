// SPDX-License-Identifier: BSD-3-Clause
// What the math warps read and leave: stores of operands, in the form that the product M multiplies,
// and its sums.
#pragma once

#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

// Stores 16 bytes' worth of an operand, in the splits that M multiplies; each split's tile begins
// kSplitBytes after the one before.
template <class M, int kSplitBytes>
__device__ __forceinline__ void store_operand(uint32_t to,
                                              const float (&v)[kVecSize<typename M::element>]) {
  using T = typename M::element;
  if constexpr (M::kRoundOnStore) {
    uint4 high, low;
    split_tf32<M::kSplits>(v, high, low);
    store_shared(to, high);
    if (M::kSplits == 2) store_shared(to + kSplitBytes, low);
  } else {
    store_shared(to, make_vec16(v, T{}));
  }
}

// The same for four floats that become one column of four neighbouring rows. transposed_offset():
// where the first of them goes. The four stores take their rows in an order that depends on the
// lane, so that the stores of a warp fall in different banks. Tiles begin at multiples of 1 KiB.
__device__ __forceinline__ uint32_t transposed_offset(int column, int vec) {
  return swizzled_offset(vec * kVecSize<float>, column / kVecSize<float>) +
         column % kVecSize<float> * int(sizeof(float));
}
template <class M, int kSplitBytes>
__device__ __forceinline__ void store_transposed(uint32_t to, const float (&v)[kVecSize<float>]) {
  const uint32_t rotation = to / (2 * kVecSize<float> * kRowBytes);  // in units of two vectors
  const bool odd = rotation & 1, far = rotation & 2;
  const float one[4] = {odd ? v[1] : v[0], odd ? v[2] : v[1], odd ? v[3] : v[2], odd ? v[0] : v[3]};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t row = (i + rotation) % 4;
    const uint32_t at = (to ^ row * kVec16Bytes) + row * kRowBytes;
    uint32_t high, low;
    split_tf32<M::kSplits>(far ? one[(i + 2) % 4] : one[i], high, low);
    store_shared_word(at, high);
    if (M::kSplits == 2) store_shared_word(at + kSplitBytes, low);
  }
}

// Vector j of the sums of row i that a thread holds, for columns in the order of column_place().
template <class M, int kCount>
__device__ __forceinline__ void read_sums(const M& product, int i, int j, float (&v)[kCount]) {
#pragma unroll
  for (int k = 0; k < kCount / 2; ++k) {
    const float2 pair = product.pair(i, j * (kCount / 2) + k);
    v[2 * k] = pair.x;
    v[2 * k + 1] = pair.y;
  }
}

}  // namespace dcnv2::cuda
