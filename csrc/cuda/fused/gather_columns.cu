// SPDX-License-Identifier: BSD-3-Clause
// grad_input[q, c] = sum over the samples that touch pixel q of corner weight * modulation * gradient
// of the sample. The gradients of a few images' samples, which the pass for grad_offset computes
// anyway, lie in the L2 cache or not far from it; the samples come sorted by pixel, so that every pixel
// adds up its own in a fixed order.
#include "columns.cuh"
#include "slab.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 256;

// One thread a pixel and chunk of channels.
template <class T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(ConvArgs a, Run run, SampleLists<float> lists, const T* columns) {
  const ConvGeometry& g = a.g;
  const int channels = int(g.in_channels), chunks = channels / kVector<T>;
  const int height = int(g.height), width = int(g.width);
  const int64_t count = run.images * height * width * chunks;
  const int64_t index = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (index >= count) return;
  const int chunk = int(index % chunks), q = int(index / chunks), line = q / width;
  const int channel = chunk * kVector<T>, deform_group = channel / int(g.deform_channels());
  const int image = int(run.first - lists.first_image);  // of the run, among those of the lists
  const int64_t row0 = image * g.out_height * g.out_width * g.taps();
  const T* column = columns + channel - row0 * channels;

  float sum[kVector<T>] = {};
  // The cells to the left and right of the pixel are neighbours, and so are their lists.
  for (int down = 0; down < 2; ++down) {
    const int64_t left = cell_key(g, lists.images, deform_group, image + line / height, line % height,
                                  q % width, 2 * down + 1);
    const uint32_t begin = lists.start[left], middle = lists.start[left + 1];
    const uint32_t end = lists.start[left + 2];
#pragma unroll 4
    for (uint32_t i = begin; i < end; ++i) {
      const int corner = 2 * down + (i < middle ? 1 : 0);
      const float weight = lists.weights[int64_t(i) * 4 + corner];
      const char* at = reinterpret_cast<const char*>(column + int64_t(lists.row[i]) * channels);
      add_chunk(load_chunk(at), weight, sum, T{});
    }
  }
  T* to = static_cast<T*>(a.grad_input) +
          (run.first * height * width + q) * channels + channel;
  *reinterpret_cast<uint4*>(to) = make_chunk(sum, T{});
}

}  // namespace

void launch_gather(const ConvArgs& a, const Run& run, const SampleLists<float>& lists,
                   const void* columns, cudaStream_t stream) {
  auto with_type = [&](auto element) {
    using T = decltype(element);
    const int64_t chunks = run.images * a.g.height * a.g.width * a.g.in_channels / kVector<T>;
    gather_kernel<T><<<ceil_div(chunks, kThreads), kThreads, 0, stream>>>(
        a, run, lists, static_cast<const T*>(columns));
    check(cudaGetLastError(), "gather");
  };
  switch (a.dtype) {
    case Dtype::kFloat16:
      return with_type(__half{});
    case Dtype::kBFloat16:
      return with_type(__nv_bfloat16{});
    default:
      return with_type(float{});
  }
}

}  // namespace dcnv2::cuda
