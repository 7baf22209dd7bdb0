// SPDX-License-Identifier: BSD-3-Clause
// Vectors of 16 bytes of neighbouring channels, which threads load and store at once.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "cuda/common/elements.cuh"

namespace dcnv2::cuda {

constexpr int kVec16Bytes = 16;
template <class T>
constexpr int kVecSize = kVec16Bytes / int(sizeof(T));  // elements of a vector

// The elements as floats.
__device__ __forceinline__ void widen_vec16(const uint4& vec, float (&v)[8], __nv_bfloat16) {
  const uint32_t words[4] = {vec.x, vec.y, vec.z, vec.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(words[i] << 16);
    v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
__device__ __forceinline__ void widen_vec16(const uint4& vec, float (&v)[8], __half) {
  const __half2* pairs = reinterpret_cast<const __half2*>(&vec);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = __half22float2(pairs[i]);
    v[2 * i] = pair.x;
    v[2 * i + 1] = pair.y;
  }
}
__device__ __forceinline__ void widen_vec16(const uint4& vec, float (&v)[4], float) {
  v[0] = __uint_as_float(vec.x);
  v[1] = __uint_as_float(vec.y);
  v[2] = __uint_as_float(vec.z);
  v[3] = __uint_as_float(vec.w);
}

// sum += weight * vec.
template <class T>
__device__ __forceinline__ void fma_vec16(const uint4& vec, float weight, float (&sum)[kVecSize<T>],
                                          T type) {
  float v[kVecSize<T>];
  widen_vec16(vec, v, type);
#pragma unroll
  for (int i = 0; i < kVecSize<T>; ++i) sum[i] += weight * v[i];
}

__device__ __forceinline__ uint32_t narrow_pair(float a, float b, __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  return reinterpret_cast<const uint32_t&>(pair);
}
__device__ __forceinline__ uint32_t narrow_pair(float a, float b, __half) {
  const __half2 pair = __floats2half2_rn(a, b);
  return reinterpret_cast<const uint32_t&>(pair);
}

template <class T>
__device__ __forceinline__ uint4 make_vec16(const float (&v)[8], T type) {
  return {narrow_pair(v[0], v[1], type), narrow_pair(v[2], v[3], type),
          narrow_pair(v[4], v[5], type), narrow_pair(v[6], v[7], type)};
}
__device__ __forceinline__ uint4 make_vec16(const float (&v)[4], float) {
  return {__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]),
          __float_as_uint(v[3])};
}

template <int kCount>
__device__ __forceinline__ bool all_finite(const float (&v)[kCount]) {
  bool finite = true;
#pragma unroll
  for (int i = 0; i < kCount; ++i) finite &= isfinite(v[i]);
  return finite;
}

// A vector that no thread writes during the kernel.
__device__ __forceinline__ uint4 load_vec16(const char* at) {
  return __ldg(reinterpret_cast<const uint4*>(at));
}

// Calls f with a value of the element type that `dtype` names; float64 has no vectors.
template <class F>
void dispatch_vec16(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::kFloat16:
      return f(__half{});
    case Dtype::kBFloat16:
      return f(__nv_bfloat16{});
    default:
      return f(float{});
  }
}

}  // namespace dcnv2::cuda
