// SPDX-License-Identifier: BSD-3-Clause
// grad_input[q, c] = sum over taps and o of touching(q, tap, o) * weight[o, c, tap], where
// touching(q, tap, o) = sum of corner weight * modulation * grad_output[p, o] over the samples of
// the tap that touch pixel q. The samples are sorted, so nothing is scattered.
#include "cuda/common/common.cuh"
#include "cuda/sample_sort/sample_lists.cuh"
#include "cuda/simt/simt.cuh"
#include "cuda/simt/tile_product.cuh"

namespace dcnv2::cuda {

// ---- Kernel

// Tiles: input pixels of the lists' images, channels of a unit, units.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    grad_input_kernel(ConvArgs a, SimtTiles tiles, int64_t first_image,
                      SampleLists<accumulator_t<T>> lists) {
  if (nothing_to_mend(a)) return;
  for_each_tile(tiles, [&](int64_t row_tile, int64_t col_tile, int64_t unit_index) {
    using Acc = accumulator_t<T>;
    const ConvGeometry& g = a.g;
    const int64_t unit = channel_unit(g), unit0 = unit_index * unit, outputs = g.group_out();
    const int64_t group = unit0 / g.group_in(), deform_group = unit0 / g.deform_channels();
    const int64_t row0 = row_tile * kTile, col0 = col_tile * kTile;
    const T* weight = static_cast<const T*>(a.weight.data);
    const T* grad = static_cast<const T*>(a.grad_output) +
                    first_image * g.out_height * g.out_width * g.out_channels + group * outputs;

    Acc sum[kPerThread][kPerThread] = {};
    const ProductSize size{lists.grid.images * g.height * g.width, unit, g.taps() * outputs};
    tile_product<true, false>(
        size, row0, col0,
        [&](int64_t q, int64_t k) {
          const int64_t tap = k / outputs, o = k % outputs, line = q / g.width;
          Acc touching = 0;
          for (int corner = 0; corner < 4; ++corner) {
            const auto [begin, end] =
                lists.list(lists.key(deform_group * g.taps() + tap, line / g.height,
                                     line % g.height, q % g.width, corner));
            for (uint32_t i = begin; i < end; ++i) {
              touching += lists.weights[int64_t(i) * 4 + corner] *
                          widen(grad[int64_t(lists.row[i]) * g.out_channels + o]);
            }
          }
          return touching;
        },
        [&](int64_t k, int64_t c) {
          const int64_t tap = k / outputs;
          return widen(
              weight[a.weight.index(group * outputs + k % outputs, unit0 + c - group * g.group_in(),
                                    tap / g.kernel_w, tap % g.kernel_w)]);
        },
        sum);

    T* grad_input =
        static_cast<T*>(a.grad_input) + first_image * g.height * g.width * g.in_channels + unit0;
    for (int i = 0; i < kPerThread; ++i) {
      for (int j = 0; j < kPerThread; ++j) {
        const int64_t q = row0 + threadIdx.x / 16 * kPerThread + i;
        const int64_t c = col0 + threadIdx.x % 16 * kPerThread + j;
        if (q >= size.rows || c >= unit) continue;
        T& to = grad_input[q * g.in_channels + c];
        if (!keeps(a, [&] { return widen(to); })) to = narrow<T>(sum[i][j]);
      }
    }
  });
}

// ---- Launch

template <class T>
void launch_simt_grad_input(const ConvArgs& a, int64_t first, int64_t images,
                            const SampleLists<accumulator_t<T>>& lists, cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const int64_t unit = channel_unit(g);
  const SimtTiles tiles{ceil_div(images * g.height * g.width, kTile), ceil_div(unit, kTile),
                        g.in_channels / unit};
  grad_input_kernel<T><<<tiles.blocks(a), kTileThreads, 0, stream>>>(a, tiles, first, lists);
  check(cudaGetLastError(), "grad_input");
}
template void launch_simt_grad_input<float>(const ConvArgs&, int64_t, int64_t,
                                            const SampleLists<float>&, cudaStream_t);
template void launch_simt_grad_input<__half>(const ConvArgs&, int64_t, int64_t,
                                             const SampleLists<float>&, cudaStream_t);
template void launch_simt_grad_input<__nv_bfloat16>(const ConvArgs&, int64_t, int64_t,
                                                    const SampleLists<float>&, cudaStream_t);

static void launch_grad_input(const ConvArgs& a, int64_t images_at_once, void* workspace,
                              cudaStream_t stream) {
  for (int64_t first = 0; first < a.g.batch; first += images_at_once) {
    const int64_t images = std::min(images_at_once, a.g.batch - first);
    dispatch(a.dtype, [&](auto element) {
      using T = decltype(element);
      const auto lists = build_sample_lists<accumulator_t<T>>(a, first, images, workspace, stream);
      launch_simt_grad_input<T>(a, first, images, lists, stream);
    });
  }
}

PassPlan plan_grad_input(const ConvArgs& a) {
  const int64_t images = images_per_pass(a.g);
  const size_t acc_size = a.dtype == Dtype::kFloat64 ? sizeof(double) : sizeof(float);
  return {.pass = "grad_input",
          .workspace = size_t(sample_lists_workspace(a.g, images, acc_size)),
          .launch = [a, images](const PassMemory& memory, cudaStream_t stream) {
            launch_grad_input(a, images, memory.workspace, stream);
          }};
}

}  // namespace dcnv2::cuda
