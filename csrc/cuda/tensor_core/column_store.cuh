// SPDX-License-Identifier: BSD-3-Clause
// Stores the columns (the gradients of samples) to memory, in the layout of columns.cuh.
#pragma once

#include "cuda/tensor_core/corner_dots.cuh"
#include "cuda/tensor_core/offset_mask_smem.cuh"

namespace dcnv2::cuda {

__device__ __forceinline__ void store_vec16(char* to, const uint4& vec) {
  *reinterpret_cast<uint4*>(to) = vec;
}
__device__ __forceinline__ uint4 as_vec16(const float4& v) {
  return {__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)};
}
// Word by word: for a whole uint4 the compiler selects between addresses in local memory.
__device__ __forceinline__ uint4 either(bool first, const uint4& a, const uint4& b) {
  return {first ? a.x : b.x, first ? a.y : b.y, first ? a.z : b.z, first ? a.w : b.w};
}
__device__ __forceinline__ uint4 from_neighbour(const uint4& v) {
  auto exchange = [](uint32_t word) { return __shfl_xor_sync(0xffffffffu, word, 1); };
  return {exchange(v.x), exchange(v.y), exchange(v.z), exchange(v.w)};
}

// One lane's part in storing the columns of a tap.
template <class S>
struct ColumnStore {
  using T = typename S::T;

  const GradOffsetArgs& f;
  const S& shared;
  const int tap, vec, lanes;  // vec: the lane's 16 bytes of a row; lanes: of a deform group

  __device__ __forceinline__ char* address(int row, int group, int channel) const {
    const int within = channel * int(sizeof(T)) + group * int(sizeof(float4));
    if constexpr (!S::kShareAddresses) {
      return f.columns + shared.table.columns[row] + tap * f.column_bytes + within;
    }
    const Pixel p = shared.rows.pixel(row);
    const int pixel = (p.n * int(f.conv.g.out_height) + p.y) * int(f.conv.g.out_width) + p.x;
    return f.columns + (int64_t(pixel) * f.packed.taps + tap) * f.column_bytes + within;
  }

  // The lane's vector, and after the last one of its deform group the sample's corner weights.
  __device__ __forceinline__ void store(int row, int group, int channel, const uint4& column,
                                        const float4& weight) const {
    if (group < 0 || !shared.rows.exists(row)) return;
    char* to = address(row, group, channel);
    store_vec16(to, column);
    if ((vec & (lanes - 1)) == lanes - 1) {
      store_vec16(to + kVec16Bytes, as_vec16(corner_weights(weight)));
    }
  }

  // The same where one vector is all of a deform group. Two lanes store the 32 bytes of the one,
  // then those of the other: whole sectors, where each lane by itself would store half sectors.
  // Every lane of the warp must call it.
  __device__ __forceinline__ void store_pair(int row, int channel, const uint4& column,
                                             const float4& weight) const {
    const uint4 weights = as_vec16(corner_weights(weight));
    const bool odd = vec % 2;
    const uint4 given = from_neighbour(either(odd, column, weights));
    const int one = channel / kVecSize<T> - odd;  // the group of the even lane
    if (!shared.rows.exists(row)) return;
    const int groups = int(f.conv.g.deform_groups);
    char* to = address(row, one, one * kVecSize<T>) + odd * kVec16Bytes;
    if (one < groups) store_vec16(to, either(odd, given, column));
    if (one + 1 < groups) store_vec16(to + 2 * kVec16Bytes, either(odd, weights, given));
  }
};

}  // namespace dcnv2::cuda
