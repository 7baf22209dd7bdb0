// SPDX-License-Identifier: BSD-3-Clause
// output[r, bin, c] = mask * average of the bin's samples, and the gradients of offset and mask.
// A batch index or a level that is out of range, or a box that is not finite, yields NaN.
#include "cuda/roi/roi_bin.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// ---- Sum of a warp

// Sums over the lanes of a warp in a fixed order.
template <class Acc>
__device__ Acc warp_sum(Acc v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}

// ---- Kernel of the forward

// One thread for each bin and a few channels.
template <class Channels, class Rule>
__global__ void __launch_bounds__(kThreads) roi_pool_kernel(RoiPoolArgs a) {
  using T = typename Channels::element;
  using Acc = accumulator_t<T>;
  constexpr int kCount = Channels::kCount;
  const RoiPoolGeometry& g = a.g;
  const int64_t bins = g.pooled_h * g.pooled_w, across = g.out_channels / kCount;
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < g.rois * bins * across;
       i += int64_t(gridDim.x) * kThreads) {
    const int64_t c = i % across * kCount, bin_index = i / across % bins, r = i / across / bins;
    const int64_t bin_y = bin_index / g.pooled_w, bin_x = bin_index % g.pooled_w;
    const RoiBin<Acc, Rule> bin(a, r, bin_y, bin_x, bin_class(g, c));
    Acc value[kCount];
    if (bin.image >= 0) {
      const auto sums = bin_sums<Channels>(a, bin, bin_channel<Rule>(g, c, bin_y, bin_x));
      const Acc mask = bin_mask<Acc, Rule>(a, r, bin_y, bin_x), divisor = bin.divisor(g);
      for (int k = 0; k < kCount; ++k) value[k] = mask * sums.value[k] / divisor;
    } else {
      for (int k = 0; k < kCount; ++k) value[k] = bin.image == kPaddingRoi ? Acc(0) : Acc(NAN);
    }
    Channels::store(static_cast<T*>(a.output) + i * kCount, value);
  }
}

// ---- Gradients of a bin

// A lane's contribution to the gradients of mask and offset, of the channels c0 .. c1 of a bin.
template <class Acc>
struct BinGradients {
  Acc mask = 0, y = 0, x = 0;

  template <class Channels, class Rule>
  __device__ void add(const RoiPoolArgs& a, const RoiBin<Acc, Rule>& bin, int64_t r, int64_t bin_y,
                      int64_t bin_x, int64_t c0, int64_t c1) {
    using T = typename Channels::element;
    constexpr int kCount = Channels::kCount;
    const RoiPoolGeometry& g = a.g;
    if (bin.image < 0) {
      mask = y = x = Acc(NAN);
      return;
    }
    const T* grad = static_cast<const T*>(a.grad_output) +
                    ((r * g.pooled_h + bin_y) * g.pooled_w + bin_x) * g.out_channels;
    const Acc scale = Acc(1) / bin.divisor(g), modulation = bin_mask<Acc, Rule>(a, r, bin_y, bin_x);
    for (int64_t c = c0 + threadIdx.x % 32 * kCount; c < c1; c += 32 * kCount) {
      const auto sums = bin_sums<Channels>(a, bin, bin_channel<Rule>(g, c, bin_y, bin_x));
      Acc grads[kCount];
      Channels::load(grad + c, grads);
      for (int k = 0; k < kCount; ++k) {
        mask += scale * grads[k] * sums.value[k];
        y += scale * modulation * grads[k] * sums.slope_y[k] * bin.y.slope;
        x += scale * modulation * grads[k] * sums.slope_x[k] * bin.x.slope;
      }
    }
  }
};

// The index of the warp in the grid.
__device__ __forceinline__ int64_t warp_index() {
  return blockIdx.x * int64_t(kWarps) + threadIdx.x / 32;
}

// ---- Kernel of grad_mask

// One warp for each bin.
template <class Channels, class Rule>
__global__ void __launch_bounds__(kThreads) roi_pool_grad_mask_kernel(RoiPoolArgs a) {
  using Acc = accumulator_t<typename Channels::element>;
  const RoiPoolGeometry& g = a.g;
  const int64_t bins = g.pooled_h * g.pooled_w, index = warp_index(), r = index / bins;
  if (r >= g.rois) return;
  const int64_t bin_y = index % bins / g.pooled_w, bin_x = index % g.pooled_w;
  const int64_t share = g.out_channels / g.classes;
  BinGradients<Acc> sums;
  for (int64_t cls = 0; cls < g.classes; ++cls) {
    const RoiBin<Acc, Rule> bin(a, r, bin_y, bin_x, cls);
    sums.template add<Channels>(a, bin, r, bin_y, bin_x, cls * share, (cls + 1) * share);
  }
  const Acc sum = warp_sum(sums.mask);
  if (threadIdx.x % 32 == 0) {
    store_as<Acc>(a.grad_mask.data, a.grad_mask.dtype, a.grad_mask.index(r, 0, bin_y, bin_x), sum);
  }
}

// ---- Kernel of grad_offset, and of grad_mask if it can

// Whether every bin has its own offset, so that one kernel computes the gradients of offset and
// mask.
__host__ __device__ bool part_is_bin(const RoiPoolArgs& a) {
  return a.g.classes == 1 && (!a.psroi || a.g.part_size == a.g.pooled_h);
}

// One warp for each roi, class and part. Several bins may share a part.
template <class Channels, class Rule>
__global__ void __launch_bounds__(kThreads) roi_pool_grad_offset_kernel(RoiPoolArgs a) {
  using Acc = accumulator_t<typename Channels::element>;
  const RoiPoolGeometry& g = a.g;
  const int64_t parts_y = Rule::kPsroi ? g.part_size : g.pooled_h;
  const int64_t parts_x = Rule::kPsroi ? g.part_size : g.pooled_w;
  const int64_t index = warp_index(), part_x = index % parts_x, part_y = index / parts_x % parts_y;
  const int64_t cls = index / (parts_x * parts_y) % g.classes;
  const int64_t r = index / (parts_x * parts_y) / g.classes, share = g.out_channels / g.classes;
  if (r >= g.rois) return;
  // The bins of a part: the first that psroi_part gives it, up to the first of the next.
  auto first_bin = [](int64_t part, int64_t bins, int64_t parts) {
    return (part * bins + parts - 1) / parts;
  };
  BinGradients<Acc> sums;
  for (int64_t bin_y = first_bin(part_y, g.pooled_h, parts_y);
       bin_y < first_bin(part_y + 1, g.pooled_h, parts_y); ++bin_y) {
    for (int64_t bin_x = first_bin(part_x, g.pooled_w, parts_x);
         bin_x < first_bin(part_x + 1, g.pooled_w, parts_x); ++bin_x) {
      const RoiBin<Acc, Rule> bin(a, r, bin_y, bin_x, cls);
      sums.template add<Channels>(a, bin, r, bin_y, bin_x, cls * share, (cls + 1) * share);
    }
  }
  const Acc y = warp_sum(sums.y), x = warp_sum(sums.x), mask = warp_sum(sums.mask);
  if (threadIdx.x % 32 != 0) return;
  const View4& to = a.grad_offset;
  const int64_t at = to.index(r, 2 * cls, part_y, part_x);
  store_as<Acc>(to.data, to.dtype, at, x);
  store_as<Acc>(to.data, to.dtype, at + to.stride_c, y);
  if (a.grad_mask.data != nullptr && part_is_bin(a)) {
    store_as<Acc>(a.grad_mask.data, a.grad_mask.dtype, a.grad_mask.index(r, 0, part_y, part_x),
                  mask);
  }
}

}  // namespace

// ---- Launch

static void launch_roi_pool(const RoiPoolArgs& a, cudaStream_t stream) {
  dispatch_pool(a, [&](auto channels, auto rule) {
    using Channels = decltype(channels);
    const int64_t count =
        a.g.rois * a.g.pooled_h * a.g.pooled_w * (a.g.out_channels / Channels::kCount);
    roi_pool_kernel<Channels, decltype(rule)>
        <<<blocks_for(count, kThreads), kThreads, 0, stream>>>(a);
  });
  check(cudaGetLastError(), "roi_pool");
}

PassPlan plan_roi_pool(const RoiPoolArgs& a) {
  return {.pass = "forward",
          .launch = [a](const PassMemory&, cudaStream_t stream) { launch_roi_pool(a, stream); }};
}

static void launch_roi_pool_grad_offset_mask(const RoiPoolArgs& a, cudaStream_t stream) {
  const RoiPoolGeometry& g = a.g;
  const int64_t bins = g.pooled_h * g.pooled_w;
  const int64_t parts = a.psroi ? g.part_size * g.part_size : bins;
  const bool offset = a.grad_offset.data != nullptr;
  const bool mask = a.grad_mask.data != nullptr && !(offset && part_is_bin(a));
  dispatch_pool(a, [&](auto channels, auto rule) {
    using Channels = decltype(channels);
    using Rule = decltype(rule);
    if constexpr (!Rule::kMultiscale) {  // which has neither
      if (offset) {
        roi_pool_grad_offset_kernel<Channels, Rule>
            <<<ceil_div(g.rois * g.classes * parts, kWarps), kThreads, 0, stream>>>(a);
        check(cudaGetLastError(), "roi_pool_grad_offset");
      }
      if (mask) {
        roi_pool_grad_mask_kernel<Channels, Rule>
            <<<ceil_div(g.rois * bins, kWarps), kThreads, 0, stream>>>(a);
        check(cudaGetLastError(), "roi_pool_grad_mask");
      }
    }
  });
}

PassPlan plan_roi_pool_grad_offset_mask(const RoiPoolArgs& a) {
  return {.pass = "grad_offset_mask", .launch = [a](const PassMemory&, cudaStream_t stream) {
            launch_roi_pool_grad_offset_mask(a, stream);
          }};
}

}  // namespace dcnv2::cuda
