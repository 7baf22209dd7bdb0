// SPDX-License-Identifier: BSD-3-Clause
// output[p, o] = bias[o] + sum over taps and channels of sample(p, tap, c) * weight[o, c, tap].
#include "cuda/common/common.cuh"
#include "cuda/simt/sampled_value.cuh"
#include "cuda/simt/tile_product.cuh"

namespace dcnv2::cuda {

// ---- Kernel

// Grid: tiles of output pixels, tiles of a group's output channels, groups.
template <class T>
__global__ void __launch_bounds__(kTileThreads) forward_kernel(ConvArgs a) {
  using Acc = accumulator_t<T>;
  const ConvGeometry& g = a.g;
  const int64_t channels = g.group_in(), outputs = g.group_out(), group = blockIdx.z;
  const int64_t row0 = int64_t(blockIdx.x) * kTile, col0 = int64_t(blockIdx.y) * kTile;
  const T* weight = static_cast<const T*>(a.weight.data);

  Acc sum[kPerThread][kPerThread] = {};
  const ProductSize size{g.out_pixels(), outputs, g.taps() * channels};
  tile_product<true, true>(
      size, row0, col0,
      [&](int64_t pixel, int64_t k) {
        return sampled_value<T>(a, out_pixel(g, pixel), k / channels,
                                group * channels + k % channels);
      },
      [&](int64_t k, int64_t o) {
        const int64_t tap = k / channels;
        return widen(weight[a.weight.index(group * outputs + o, k % channels, tap / g.kernel_w,
                                           tap % g.kernel_w)]);
      },
      sum);

  T* output = static_cast<T*>(a.output);
  const T* bias = static_cast<const T*>(a.bias);
  for (int i = 0; i < kPerThread; ++i) {
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t p = row0 + threadIdx.x / 16 * kPerThread + i;
      const int64_t o = col0 + threadIdx.x % 16 * kPerThread + j;
      if (p >= size.rows || o >= outputs) continue;
      const int64_t channel = group * outputs + o;
      const Acc shift = bias != nullptr ? widen(bias[channel * a.bias_stride]) : Acc(0);
      output[p * g.out_channels + channel] = narrow<T>(sum[i][j] + shift);
    }
  }
}

// ---- Launch

static void launch_forward(const ConvArgs& a, cudaStream_t stream) {
  const dim3 grid(ceil_div(a.g.out_pixels(), kTile), ceil_div(a.g.group_out(), kTile), a.g.groups);
  dispatch(a.dtype, [&](auto element) {
    forward_kernel<decltype(element)><<<grid, kTileThreads, 0, stream>>>(a);
  });
  check(cudaGetLastError(), "forward");
}

PassPlan plan_forward(const ConvArgs& a) {
  return {.pass = "forward",
          .launch = [a](const PassMemory&, cudaStream_t stream) { launch_forward(a, stream); }};
}

}  // namespace dcnv2::cuda
