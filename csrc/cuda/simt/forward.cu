// SPDX-License-Identifier: BSD-3-Clause
// output[p, o] = bias[o] + sum over taps and channels of sample(p, tap, c) * weight[o, c, tap].
#include "cuda/common/common.cuh"
#include "cuda/simt/sampled_value.cuh"
#include "cuda/simt/simt.cuh"
#include "cuda/simt/tile_product.cuh"

namespace dcnv2::cuda {

// ---- Kernel

// Tiles: output pixels, a group's output channels, groups.
template <class T>
__global__ void __launch_bounds__(kTileThreads) forward_kernel(ConvArgs a, SimtTiles tiles) {
  if (nothing_to_mend(a)) return;
  for_each_tile(tiles, [&](int64_t row_tile, int64_t col_tile, int64_t group) {
    using Acc = accumulator_t<T>;
    const ConvGeometry& g = a.g;
    const int64_t channels = g.group_in(), outputs = g.group_out();
    const int64_t row0 = row_tile * kTile, col0 = col_tile * kTile;
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
        T& to = output[p * g.out_channels + channel];
        if (!keeps(a, [&] { return widen(to); })) to = narrow<T>(sum[i][j] + shift);
      }
    }
  });
}

// ---- Launch

void launch_simt_forward(const ConvArgs& a, cudaStream_t stream) {
  const SimtTiles tiles{ceil_div(a.g.out_pixels(), kTile), ceil_div(a.g.group_out(), kTile),
                        a.g.groups};
  dispatch(a.dtype, [&](auto element) {
    forward_kernel<decltype(element)><<<tiles.blocks(a), kTileThreads, 0, stream>>>(a, tiles);
  });
  check(cudaGetLastError(), "forward");
}

PassPlan plan_forward(const ConvArgs& a) {
  return {.pass = "forward", .launch = [a](const PassMemory&, cudaStream_t stream) {
            launch_simt_forward(a, stream);
          }};
}

}  // namespace dcnv2::cuda
