// SPDX-License-Identifier: BSD-3-Clause
// Let column(p, tap, c) = sum over o of grad_output[p, o] * weight[o, c, tap], the gradient of a
// sample. Summed over the channels of a deform group, grad_mask is column * sampled value, and
// grad_offset is column * mask * slope of the sampled value.
#include "cuda/common/common.cuh"
#include "cuda/simt/sampled_value.cuh"
#include "cuda/simt/simt.cuh"
#include "cuda/simt/tile_product.cuh"

namespace dcnv2::cuda {

// ---- Kernel

// Sums over the 16 threads that share the rows of a tile; each of them gets the sum.
template <class Acc>
__device__ __forceinline__ Acc sum_over_columns(Acc v) {
  for (int step = 8; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}

// Tiles: output pixels, taps, deform groups.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    grad_offset_mask_kernel(ConvArgs a, SimtTiles tiles) {
  if (nothing_to_mend(a)) return;
  for_each_tile(tiles, [&](int64_t row_tile, int64_t tap, int64_t deform_group) {
    using Acc = accumulator_t<T>;
    const ConvGeometry& g = a.g;
    const int64_t row0 = row_tile * kTile;
    const int64_t unit = channel_unit(g), outputs = g.group_out();
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    const T* grad = static_cast<const T*>(a.grad_output);
    const T* weight = static_cast<const T*>(a.weight.data);

    // This thread's four pixels and their samples
    Sample<Acc> sample[kPerThread] = {};
    Acc mask[kPerThread] = {};
    OutPixel pixel[kPerThread] = {};
    for (int i = 0; i < kPerThread; ++i) {
      const int64_t p = row0 + ty * kPerThread + i;
      if (p >= g.out_pixels()) continue;
      pixel[i] = out_pixel(g, p);
      sample[i] = load_sample<Acc>(a, pixel[i], tap, deform_group, mask[i]);
    }

    // Dot products with the four corners over all channels of the deform group
    Acc dot[kPerThread][4] = {};
    const int64_t end = (deform_group + 1) * g.deform_channels();
    for (int64_t unit0 = deform_group * g.deform_channels(); unit0 < end; unit0 += unit) {
      const int64_t group = unit0 / g.group_in();
      for (int64_t col0 = 0; col0 < unit; col0 += kTile) {
        Acc column[kPerThread][kPerThread] = {};
        tile_product<true, false>(
            ProductSize{g.out_pixels(), unit, outputs}, row0, col0,
            [&](int64_t p, int64_t o) {
              return widen(grad[p * g.out_channels + group * outputs + o]);
            },
            [&](int64_t o, int64_t c) {
              return widen(
                  weight[a.weight.index(group * outputs + o, unit0 + c - group * g.group_in(),
                                        tap / g.kernel_w, tap % g.kernel_w)]);
            },
            column);
        for (int i = 0; i < kPerThread; ++i) {
          if (!sample[i].inside) continue;
          for (int j = 0; j < kPerThread; ++j) {
            const int64_t c = col0 + tx * kPerThread + j;
            if (c >= unit) continue;
            Acc v[4];
            load_corners<T>(a, pixel[i].n, sample[i], unit0 + c, v);
            for (int corner = 0; corner < 4; ++corner) dot[i][corner] += column[i][j] * v[corner];
          }
        }
      }
    }

    for (int i = 0; i < kPerThread; ++i) {
      for (int corner = 0; corner < 4; ++corner) dot[i][corner] = sum_over_columns(dot[i][corner]);
      if (tx != 0 || row0 + ty * kPerThread + i >= g.out_pixels()) continue;
      // A NaN coordinate makes the gradients of its offset and mask NaN.
      const Acc poison = sample[i].nan ? sample[i].ly + sample[i].lx : Acc(0);
      const OutPixel& p = pixel[i];
      const int64_t channel = deform_group * g.taps() + tap;
      auto store = [&](const View4& to, int64_t to_channel, Acc value) {
        const int64_t at = to.index(p.n, to_channel, p.y, p.x);
        if (!keeps(a, [&] { return load_as<Acc>(to.data, to.dtype, at); })) {
          store_as<Acc>(to.data, to.dtype, at, value + poison);
        }
      };
      if (a.grad_offset.data != nullptr) {
        store(a.grad_offset, 2 * channel, mask[i] * slope_y(sample[i], dot[i]));
        store(a.grad_offset, 2 * channel + 1, mask[i] * slope_x(sample[i], dot[i]));
      }
      if (a.grad_mask.data != nullptr) {
        store(a.grad_mask, channel, interpolate(sample[i], dot[i]));
      }
    }
  });
}

// ---- Launch

void launch_simt_grad_offset_mask(const ConvArgs& a, cudaStream_t stream) {
  const SimtTiles tiles{ceil_div(a.g.out_pixels(), kTile), a.g.taps(), a.g.deform_groups};
  dispatch(a.dtype, [&](auto element) {
    grad_offset_mask_kernel<decltype(element)>
        <<<tiles.blocks(a), kTileThreads, 0, stream>>>(a, tiles);
  });
  check(cudaGetLastError(), "grad_offset_mask");
}

PassPlan plan_grad_offset_mask(const ConvArgs& a) {
  return {.pass = "grad_offset_mask", .launch = [a](const PassMemory&, cudaStream_t stream) {
            launch_simt_grad_offset_mask(a, stream);
          }};
}

}  // namespace dcnv2::cuda
