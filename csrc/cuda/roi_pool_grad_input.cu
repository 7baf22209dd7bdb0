// SPDX-License-Identifier: BSD-3-Clause
// grad_input[q, c] = sum over the bins that touch pixel q of grad_output * mask * weight_y *
// weight_x / divisor. A bin's samples form a grid, so its weight of a pixel is a product of one
// factor an axis. Every pixel gathers in the order of the rois: nothing is scattered.
#include "roi_bin.cuh"

namespace dcnv2::cuda {

namespace {

// The pixels that a roi's bins may touch, and its image (-1: none). Empty: low > high.
struct RoiBox {
  int image, low_y, high_y, low_x, high_x;
};

template <class Acc>
__device__ void extend(const BinAxis<Acc>& axis, int64_t size, int& low, int& high) {
  const Acc last = axis.first + Acc(axis.count - 1) * axis.step;
  const Acc limit = Acc(size);
  // A NaN position reaches no pixel.
  if (axis.count == 0 || !(fmin(axis.first, last) <= limit && fmax(axis.first, last) >= Acc(-1))) return;
  low = min(low, static_cast<int>(fmax(floor_of(fmin(axis.first, last)), Acc(0))));
  high = max(high, static_cast<int>(fmin(floor_of(fmax(axis.first, last)) + Acc(1), limit)));
}

template <class Acc, bool kPsroi>
__global__ void boxes_kernel(RoiPoolArgs a, RoiBox* boxes) {
  const RoiPoolGeometry& g = a.g;
  const int64_t r = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (r >= g.rois) return;
  RoiBox box{-1, INT_MAX, -1, INT_MAX, -1};
  for (int64_t cls = 0; cls < g.classes; ++cls) {
    for (int64_t bin = 0; bin < g.pooled_h * g.pooled_w; ++bin) {
      const RoiBin<Acc, kPsroi> b(a, r, bin / g.pooled_w, bin % g.pooled_w, cls);
      box.image = static_cast<int>(b.image);
      extend(b.y, g.height, box.low_y, box.high_y);
      extend(b.x, g.width, box.low_x, box.high_x);
    }
  }
  boxes[r] = box;
}

// Sum over a bin's samples of the weight that they give to pixel `at`, along one axis.
template <class Acc, bool kPsroi>
__device__ Acc axis_weight(const BinAxis<Acc>& axis, int64_t at, int64_t size) {
  Acc sum = 0;
  for (int64_t i = 0; i < axis.count; ++i) {
    const AxisSample<Acc> s = RoiBin<Acc, kPsroi>::sample(axis, i, size);
    if (!s.counts || s.frac != s.frac) continue;
    if (s.low == at) sum += Acc(1) - s.frac;
    if (s.high == at) sum += s.frac;
  }
  return sum;
}

template <class T, bool kPsroi>
__global__ void grad_input_kernel(RoiPoolArgs a, const RoiBox* boxes) {
  using Acc = accumulator_t<T>;
  const RoiPoolGeometry& g = a.g;
  const int64_t count = g.batch * g.height * g.width * g.channels;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t channel = i % g.channels, q = i / g.channels, n = q / g.width / g.height;
    const int64_t y = q / g.width % g.height, x = q % g.width;
    const int64_t c = kPsroi ? channel / (g.group_size * g.group_size) : channel;
    const int64_t cls = bin_class(g, c);
    Acc sum = 0;
    for (int64_t r = 0; r < g.rois; ++r) {
      const RoiBox box = boxes[r];
      if (box.image != n || y < box.low_y || y > box.high_y || x < box.low_x || x > box.high_x) {
        continue;
      }
      for (int64_t bin = 0; bin < g.pooled_h * g.pooled_w; ++bin) {
        const int64_t bin_y = bin / g.pooled_w, bin_x = bin % g.pooled_w;
        if (bin_channel<kPsroi>(g, c, bin_y, bin_x) != channel) continue;
        const RoiBin<Acc, kPsroi> b(a, r, bin_y, bin_x, cls);
        const Acc weight_y = axis_weight<Acc, kPsroi>(b.y, y, g.height);
        if (weight_y == Acc(0)) continue;
        const Acc weight_x = axis_weight<Acc, kPsroi>(b.x, x, g.width);
        if (weight_x == Acc(0)) continue;
        const T* grad = static_cast<const T*>(a.grad_output);
        sum += widen(grad[(r * g.pooled_h * g.pooled_w + bin) * g.out_channels + c]) * weight_y *
               weight_x * bin_mask<Acc>(a, r, bin_y, bin_x) / b.divisor(g);
      }
    }
    static_cast<T*>(a.grad_input)[i] = narrow<T>(sum);
  }
}

}  // namespace

size_t roi_pool_grad_input_workspace(const RoiPoolArgs& a) { return a.g.rois * sizeof(RoiBox); }

void launch_roi_pool_grad_input(const RoiPoolArgs& a, void* workspace, cudaStream_t stream) {
  const RoiPoolGeometry& g = a.g;
  auto* boxes = static_cast<RoiBox*>(workspace);
  const int64_t count = g.batch * g.height * g.width * g.channels;
  dispatch(a.dtype, [&](auto element) {
    using T = decltype(element);
    auto run = [&](auto psroi) {
      if (g.rois > 0) {
        boxes_kernel<accumulator_t<T>, psroi()>
            <<<ceil_div(g.rois, 64), 64, 0, stream>>>(a, boxes);
      }
      grad_input_kernel<T, psroi()><<<blocks_for(count, 256), 256, 0, stream>>>(a, boxes);
    };
    a.psroi ? run(std::true_type{}) : run(std::false_type{});
  });
  check(cudaGetLastError(), "roi_pool_grad_input");
}

}  // namespace dcnv2::cuda
