// SPDX-License-Identifier: BSD-3-Clause
// output[r, bin, c] = mask * average of the bin's samples, and the gradients of offset and mask.
// A batch index that is not one of the input, or a box that is not finite, gives NaN.
#include "roi_bin.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 128;

// Adds up over the threads of a block, in a fixed order; thread 0 gets the sum.
template <class Acc>
__device__ Acc block_sum(Acc v) {
  __shared__ Acc warps[kThreads / 32];
  for (int step = 16; step > 0; step /= 2) v += __shfl_down_sync(0xffffffffu, v, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  v = 0;
  for (int i = 0; i < kThreads / 32; ++i) v += warps[i];
  return v;
}

template <class T, bool kPsroi>
__global__ void roi_pool_kernel(RoiPoolArgs a) {
  using Acc = accumulator_t<T>;
  const RoiPoolGeometry& g = a.g;
  const int64_t bins = g.pooled_h * g.pooled_w, count = g.rois * bins * g.out_channels;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t c = i % g.out_channels, r = i / g.out_channels / bins;
    const int64_t bin_y = i / g.out_channels % bins / g.pooled_w;
    const int64_t bin_x = i / g.out_channels % g.pooled_w;
    const RoiBin<Acc, kPsroi> bin(a, r, bin_y, bin_x, bin_class(g, c));
    Acc value = Acc(NAN);
    if (bin.image >= 0) {
      const int64_t channel = bin_channel<kPsroi>(g, c, bin_y, bin_x);
      value = bin_mask<Acc>(a, r, bin_y, bin_x) * bin_sums<T, kPsroi>(a, bin, channel).value /
              bin.divisor(g);
    }
    static_cast<T*>(a.output)[i] = narrow<T>(value);
  }
}

// One block a bin.
template <class T, bool kPsroi>
__global__ void __launch_bounds__(kThreads) roi_pool_grad_mask_kernel(RoiPoolArgs a) {
  using Acc = accumulator_t<T>;
  const RoiPoolGeometry& g = a.g;
  const int64_t bins = g.pooled_h * g.pooled_w, r = blockIdx.x / bins;
  const int64_t bin_y = blockIdx.x % bins / g.pooled_w, bin_x = blockIdx.x % g.pooled_w;
  const T* grad = static_cast<const T*>(a.grad_output) + int64_t(blockIdx.x) * g.out_channels;
  Acc sum = 0;
  for (int64_t c = threadIdx.x; c < g.out_channels; c += kThreads) {
    const RoiBin<Acc, kPsroi> bin(a, r, bin_y, bin_x, bin_class(g, c));
    if (bin.image < 0) {
      sum = Acc(NAN);
      break;
    }
    const int64_t channel = bin_channel<kPsroi>(g, c, bin_y, bin_x);
    sum += widen(grad[c]) * bin_sums<T, kPsroi>(a, bin, channel).value / bin.divisor(g);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    store_as<Acc>(a.grad_mask.data, a.grad_mask.dtype, a.grad_mask.index(r, 0, bin_y, bin_x), sum);
  }
}

// One block a roi, class and part. Several bins may share a part.
template <class T, bool kPsroi>
__global__ void __launch_bounds__(kThreads) roi_pool_grad_offset_kernel(RoiPoolArgs a) {
  using Acc = accumulator_t<T>;
  const RoiPoolGeometry& g = a.g;
  const int64_t parts_y = kPsroi ? g.part_size : g.pooled_h;
  const int64_t parts_x = kPsroi ? g.part_size : g.pooled_w;
  const int64_t part_x = blockIdx.x % parts_x, part_y = blockIdx.x / parts_x % parts_y;
  const int64_t cls = blockIdx.x / (parts_x * parts_y) % g.classes;
  const int64_t r = blockIdx.x / (parts_x * parts_y) / g.classes;
  const int64_t share = g.out_channels / g.classes;
  Acc sum_y = 0, sum_x = 0;
  for (int64_t bin_y = 0; bin_y < g.pooled_h; ++bin_y) {
    if ((kPsroi ? psroi_part(bin_y, g.pooled_h, parts_y) : bin_y) != part_y) continue;
    for (int64_t bin_x = 0; bin_x < g.pooled_w; ++bin_x) {
      if ((kPsroi ? psroi_part(bin_x, g.pooled_w, parts_x) : bin_x) != part_x) continue;
      const RoiBin<Acc, kPsroi> bin(a, r, bin_y, bin_x, cls);
      if (bin.image < 0) {
        sum_y = sum_x = Acc(NAN);
        continue;
      }
      const Acc weight = bin_mask<Acc>(a, r, bin_y, bin_x) / bin.divisor(g);
      const T* grad = static_cast<const T*>(a.grad_output) +
                      ((r * g.pooled_h + bin_y) * g.pooled_w + bin_x) * g.out_channels;
      for (int64_t c = cls * share + threadIdx.x; c < (cls + 1) * share; c += kThreads) {
        const int64_t channel = bin_channel<kPsroi>(g, c, bin_y, bin_x);
        const BinSums<Acc> sums = bin_sums<T, kPsroi>(a, bin, channel);
        sum_y += weight * widen(grad[c]) * sums.slope_y * bin.y.slope;
        sum_x += weight * widen(grad[c]) * sums.slope_x * bin.x.slope;
      }
    }
  }
  sum_y = block_sum(sum_y);
  sum_x = block_sum(sum_x);
  if (threadIdx.x != 0) return;
  const View4& to = a.grad_offset;
  const int64_t at = to.index(r, 2 * cls, part_y, part_x);
  store_as<Acc>(to.data, to.dtype, at, sum_x);
  store_as<Acc>(to.data, to.dtype, at + to.stride_c, sum_y);
}

}  // namespace

// Calls f with the element type and the convention.
template <class F>
static void dispatch_pool(const RoiPoolArgs& a, F f) {
  dispatch(a.dtype, [&](auto element) {
    a.psroi ? f(element, std::true_type{}) : f(element, std::false_type{});
  });
}

void launch_roi_pool(const RoiPoolArgs& a, cudaStream_t stream) {
  const int64_t count = a.g.rois * a.g.pooled_h * a.g.pooled_w * a.g.out_channels;
  dispatch_pool(a, [&](auto element, auto psroi) {
    roi_pool_kernel<decltype(element), psroi()><<<blocks_for(count, 256), 256, 0, stream>>>(a);
  });
  check(cudaGetLastError(), "roi_pool");
}

void launch_roi_pool_grad_mask(const RoiPoolArgs& a, cudaStream_t stream) {
  const int64_t blocks = a.g.rois * a.g.pooled_h * a.g.pooled_w;
  dispatch_pool(a, [&](auto element, auto psroi) {
    roi_pool_grad_mask_kernel<decltype(element), psroi()><<<blocks, kThreads, 0, stream>>>(a);
  });
  check(cudaGetLastError(), "roi_pool_grad_mask");
}

void launch_roi_pool_grad_offset(const RoiPoolArgs& a, cudaStream_t stream) {
  const RoiPoolGeometry& g = a.g;
  const int64_t parts = a.psroi ? g.part_size * g.part_size : g.pooled_h * g.pooled_w;
  dispatch_pool(a, [&](auto element, auto psroi) {
    roi_pool_grad_offset_kernel<decltype(element), psroi()>
        <<<g.rois * g.classes * parts, kThreads, 0, stream>>>(a);
  });
  check(cudaGetLastError(), "roi_pool_grad_offset");
}

}  // namespace dcnv2::cuda
