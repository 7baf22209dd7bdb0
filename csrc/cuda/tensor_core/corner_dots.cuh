// SPDX-License-Identifier: BSD-3-Clause
// Dot products of samples' gradients with the samples' corners, and the gradients of offset and
// mask that follow from them.
#pragma once

#include "cuda/common/vec16.cuh"
#include "cuda/tensor_core/mma/ptx_mma.cuh"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

// What one sample contributes to: two channels of grad_offset and one of grad_mask.
enum Output { kGradY, kGradX, kGradMask, kOutputs };

// One of them, from the dot products of the sample's gradient with its corners. `w` holds ly, lx,
// the mask and the corners that are on the map, as make_slope_address writes them.
__device__ __forceinline__ float sample_gradient(const float4& w, const float (&dots)[4],
                                                 int output) {
  Sample<float> s{};
  s.ly = w.x;
  s.lx = w.y;
  const int on_map = __float_as_int(w.w);
  float sums[4];
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) sums[corner] = on_map >> corner & 1 ? dots[corner] : 0;
  if (output == kGradMask) return interpolate(s, sums);
  return w.z * (output == kGradY ? slope_y(s, sums) : slope_x(s, sums));
}

// The weights by which a sample's gradient is added to its corners. `w` as above.
__device__ __forceinline__ float4 corner_weights(const float4& w) {
  const float ly = w.x, lx = w.y, mask = w.z;
  const int on_map = __float_as_int(w.w);
  return {on_map & 1 ? mask * ((1 - ly) * (1 - lx)) : 0, on_map & 2 ? mask * ((1 - ly) * lx) : 0,
          on_map & 4 ? mask * (ly * (1 - lx)) : 0, on_map & 8 ? mask * (ly * lx) : 0};
}

// Dot products of the gradients of kItems samples with their corners, by FMAs: each thread covers
// its own 16-byte vectors, and reduce() adds up over the lanes of a deform group.
template <class T, int kItems>
struct ThreadDots {
  float sum[kItems][4] = {};

  template <int kItem>
  __device__ void add(const uint4& grad, const uint4 (&corners)[4]) {
    float g[kVecSize<T>], v[kVecSize<T>];
    widen_vec16(grad, g, T{});
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      widen_vec16(corners[corner], v, T{});
#pragma unroll
      for (int i = 0; i < kVecSize<T>; ++i) sum[kItem][corner] += g[i] * v[i];
    }
  }
  // Sums over `lanes` neighbouring lanes, returned to each of them; resets the item's sums.
  __device__ void reduce(int item, int lanes, float (&sums)[4]) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      sums[corner] = sum[item][corner];
      sum[item][corner] = 0;
    }
    for (int step = 1; step < lanes; step *= 2) {
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        sums[corner] += __shfl_xor_sync(0xffffffffu, sums[corner], step);
      }
    }
  }
};

// The same by tensor cores, where the eight lanes of a row share a deform group. A warp holds 128
// bytes of four rows. The product reads them as eight rows of 64 bytes, each held by four lanes.
// With A the gradients and B one corner of each sample, the dot products are the diagonal of A *
// B^T. Only eight of A's 16 rows are used at a time, the others are zero, so that two items fit one
// accumulator. The channel order within a product is free, so both operands are used as loaded.
template <class T, int kItems>
struct TensorDots {
  static_assert(kItems <= 2);
  // [corner][mma accumulator]: rows lane / 4 and 8 further, columns lane % 4 * 2 and the next
  float sum[4][4] = {};

  template <int kItem>
  __device__ void add(const uint4& grad, const uint4 (&corners)[4]) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const uint4& v = corners[corner];
      if constexpr (kItem == 0) {
        mma_m16n8k16(sum[corner], {grad.x, 0, grad.y, 0}, {v.x, v.y}, T{});
        mma_m16n8k16(sum[corner], {grad.z, 0, grad.w, 0}, {v.z, v.w}, T{});
      } else {
        mma_m16n8k16(sum[corner], {0, grad.x, 0, grad.y}, {v.x, v.y}, T{});
        mma_m16n8k16(sum[corner], {0, grad.z, 0, grad.w}, {v.z, v.w}, T{});
      }
    }
  }
  // Lane 4 g + g / 2 holds diagonal element g, which is half g % 2 of row g / 2.
  __device__ void reduce(int item, int, float (&sums)[4]) {
    const int lane = threadIdx.x % 32, first = lane / kRowVecs * 9;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      float (&d)[2] = reinterpret_cast<float (&)[2]>(sum[corner][2 * item]);
      const float mine = lane / 4 % 2 ? d[1] : d[0];
      sums[corner] =
          __shfl_sync(0xffffffffu, mine, first) + __shfl_sync(0xffffffffu, mine, first + 4);
      d[0] = d[1] = 0;
    }
  }
};

}  // namespace dcnv2::cuda
