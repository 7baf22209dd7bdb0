// SPDX-License-Identifier: BSD-3-Clause
// What the kernels without tensor cores share: views of any element type, samples, merged groups.
#pragma once

#include <algorithm>

#include "cuda/common/elements.cuh"
#include "cuda/dispatch/launch.h"

namespace dcnv2::cuda {

// Element `index` of a tensor whose element type is known at run time only (offsets, masks, rois:
// they may be wider than the input).
template <class Acc>
__device__ __forceinline__ Acc load_as(const void* data, Dtype dtype, int64_t index) {
  switch (dtype) {
    case Dtype::kFloat64:
      return static_cast<Acc>(static_cast<const double*>(data)[index]);
    case Dtype::kFloat32:
      return static_cast<Acc>(static_cast<const float*>(data)[index]);
    case Dtype::kFloat16:
      return static_cast<Acc>(__half2float(static_cast<const __half*>(data)[index]));
    default:
      return static_cast<Acc>(__bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]));
  }
}

template <class Acc>
__device__ __forceinline__ void store_as(void* data, Dtype dtype, int64_t index, Acc value) {
  switch (dtype) {
    case Dtype::kFloat64:
      static_cast<double*>(data)[index] = static_cast<double>(value);
      break;
    case Dtype::kFloat32:
      static_cast<float*>(data)[index] = static_cast<float>(value);
      break;
    case Dtype::kFloat16:
      static_cast<__half*>(data)[index] = __float2half_rn(static_cast<float>(value));
      break;
    default:
      static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(static_cast<float>(value));
  }
}

// An output pixel of the convolution, from its index over batch, out_height and out_width.
struct OutPixel {
  int64_t n, y, x;
};
__device__ __forceinline__ OutPixel out_pixel(const ConvGeometry& g, int64_t index) {
  const int64_t row = index / g.out_width;
  return {row / g.out_height, row % g.out_height, index % g.out_width};
}

// The sample of a tap at an output pixel; `mask` becomes its modulation, 1 without a mask.
template <class Acc>
__device__ __forceinline__ Sample<Acc> load_sample(const ConvArgs& a, OutPixel p, int64_t tap,
                                                   int64_t deform_group, Acc& mask) {
  const int64_t channel = deform_group * a.g.taps() + tap;
  const int64_t at = a.offset.index(p.n, 2 * channel, p.y, p.x);
  const Acc dy = load_as<Acc>(a.offset.data, a.offset.dtype, at);
  const Acc dx = load_as<Acc>(a.offset.data, a.offset.dtype, at + a.offset.stride_c);
  mask = Acc(1);
  if (a.mask.data != nullptr) {
    mask = load_as<Acc>(a.mask.data, a.mask.dtype, a.mask.index(p.n, channel, p.y, p.x));
  }
  return make_sample<Acc>(Acc(a.g.tap_y(p.y, tap)), Acc(a.g.tap_x(p.x, tap)), dy, dx, a.g.height,
                          a.g.width);
}

// The blocks of a merged group's block-diagonal weight: the channels of one weight group each.
// kMerged: whether there are several.
template <bool kMerged>
struct MergedBlocks {
  int out = 0, in = 0;  // channels of a block

  __device__ explicit MergedBlocks(const ConvArgs& a) {
    if constexpr (!kMerged) return;
    out = int(a.g.group_out() / a.merged_groups);
    in = int(a.g.group_in() / a.merged_groups);
  }
  // Whether an output and an input channel, counted within the merged group, have a weight.
  __device__ bool on_diagonal(int o, int c) const { return !kMerged || o / out == c / in; }
};

// Whether a SIMT kernel, given the flag of a tensor-core kernel, has nothing to compute.
__device__ __forceinline__ bool nothing_to_mend(const ConvArgs& a) {
  return a.nonfinite != nullptr && *a.nonfinite == 0;
}
// Whether it leaves a value as the tensor-core kernel has written it. Without one, nothing has been
// written, and load() is not called.
template <class Load>
__device__ __forceinline__ bool keeps(const ConvArgs& a, Load load) {
  if (a.nonfinite == nullptr) return false;
  return isfinite(load());
}

// Calls f with a value of the element type that `dtype` names.
template <class F>
void dispatch(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::kFloat64:
      return f(double{});
    case Dtype::kFloat32:
      return f(float{});
    case Dtype::kFloat16:
      return f(__half{});
    case Dtype::kBFloat16:
      return f(__nv_bfloat16{});
  }
}

// Blocks for `count` threads in a grid-stride loop.
inline unsigned blocks_for(int64_t count, int threads) {
  return static_cast<unsigned>(std::min<int64_t>((count + threads - 1) / threads, 1 << 20));
}

}  // namespace dcnv2::cuda
