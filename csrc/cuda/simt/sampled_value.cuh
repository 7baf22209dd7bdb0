// SPDX-License-Identifier: BSD-3-Clause
// One modulated sample of one channel, for the SIMT kernels.
#pragma once

#include "cuda/common/common.cuh"

namespace dcnv2::cuda {

// The four corner values of a channel around a sample; 0 where a corner is off the map.
template <class T>
__device__ __forceinline__ void load_corners(const ConvArgs& a, int64_t n,
                                             const Sample<accumulator_t<T>>& s, int64_t channel,
                                             accumulator_t<T> (&v)[4]) {
  using Acc = accumulator_t<T>;
  const ConvGeometry& g = a.g;
  const Corners<Acc> c = make_corners(s, g.height, g.width);
  const T* base = static_cast<const T*>(a.input) +
                  ((n * g.height + s.y) * g.width + s.x) * g.in_channels + channel;
  const int64_t right = g.in_channels, down = g.width * g.in_channels;
  v[0] = c.valid[0] ? widen(base[0]) : Acc(0);
  v[1] = c.valid[1] ? widen(base[right]) : Acc(0);
  v[2] = c.valid[2] ? widen(base[down]) : Acc(0);
  v[3] = c.valid[3] ? widen(base[down + right]) : Acc(0);
}

template <class T>
__device__ __forceinline__ accumulator_t<T> sampled_value(const ConvArgs& a, OutPixel p,
                                                          int64_t tap, int64_t channel) {
  using Acc = accumulator_t<T>;
  Acc mask;
  const Sample<Acc> s = load_sample<Acc>(a, p, tap, channel / a.g.deform_channels(), mask);
  if (s.nan) return s.ly + s.lx;  // NaN
  if (!s.inside) return mask * Acc(0);
  Acc v[4];
  load_corners<T>(a, p.n, s, channel, v);
  return mask * interpolate(s, v);
}

}  // namespace dcnv2::cuda
