// SPDX-License-Identifier: BSD-3-Clause
// grad_input[q, c] = sum over taps and o of touching(q, tap, o) * weight[o, c, tap], where
// touching(q, tap, o) = sum of corner weight * modulation * grad_output[p, o] over the samples of
// the tap that touch pixel q. The samples are sorted, so nothing is scattered.
#include "cuda/common/common.cuh"
#include "cuda/sample_sort/sample_lists.cuh"
#include "cuda/simt/tile_product.cuh"

namespace dcnv2::cuda {

// ---- Kernel

// Grid: tiles of input pixels of the lists' images, tiles of a channel unit, channel units.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    grad_input_kernel(ConvArgs a, int64_t first_image, SampleLists<accumulator_t<T>> lists) {
  using Acc = accumulator_t<T>;
  const ConvGeometry& g = a.g;
  const int64_t unit = channel_unit(g), unit0 = blockIdx.z * unit, outputs = g.group_out();
  const int64_t group = unit0 / g.group_in(), deform_group = unit0 / g.deform_channels();
  const int64_t row0 = int64_t(blockIdx.x) * kTile, col0 = int64_t(blockIdx.y) * kTile;
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
              lists.list(lists.key(deform_group * g.taps() + tap, line / g.height, line % g.height,
                                   q % g.width, corner));
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
      if (q < size.rows && c < unit) grad_input[q * g.in_channels + c] = narrow<T>(sum[i][j]);
    }
  }
}

// ---- Launch

static void launch_grad_input(const ConvArgs& a, int64_t images_at_once, void* workspace,
                              cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const int64_t unit = channel_unit(g);
  for (int64_t first = 0; first < g.batch; first += images_at_once) {
    const int64_t images = std::min(images_at_once, g.batch - first);
    const dim3 grid(ceil_div(images * g.height * g.width, kTile), ceil_div(unit, kTile),
                    g.in_channels / unit);
    dispatch(a.dtype, [&](auto element) {
      using T = decltype(element);
      const auto lists = build_sample_lists<accumulator_t<T>>(a, first, images, workspace, stream);
      grad_input_kernel<T><<<grid, kTileThreads, 0, stream>>>(a, first, lists);
    });
    check(cudaGetLastError(), "grad_input");
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
