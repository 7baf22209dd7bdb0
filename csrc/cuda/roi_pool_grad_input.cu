// SPDX-License-Identifier: BSD-3-Clause
// grad_input[q, c] = sum over the bins that touch pixel q of grad_output * mask * weight_y *
// weight_x / divisor. Nothing is scattered: where the number of samples is known, they are sorted by
// pixel and gathered; else every pixel looks at all bins that may touch it, in the order of the rois,
// where a bin's weight of a pixel is a product of one factor an axis.
#include "gather.cuh"
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

// ---- sorted samples

constexpr int64_t kMostSamples = int64_t(1) << 24;

int64_t samples_of(const RoiPoolGeometry& g) {
  return g.rois * g.classes * g.pooled_h * g.pooled_w * g.sampling * g.sampling;
}

bool takes_lists(const RoiPoolArgs& a) {
  const RoiPoolGeometry& g = a.g;
  const CellGrid grid{g.classes, g.batch, g.height, g.width};
  return takes_chunks(a) && g.sampling > 0 && samples_of(g) <= kMostSamples &&
         grid.keys() < INT32_MAX && g.rois * g.pooled_h * g.pooled_w < INT32_MAX;
}

ListLayout list_layout(const RoiPoolArgs& a) {
  const RoiPoolGeometry& g = a.g;
  return ListLayout({g.classes, g.batch, g.height, g.width}, samples_of(g), sizeof(float));
}

// A sample by its number, over (class, roi, bin, row and column of the bin's grid).
template <bool kPsroi>
struct PoolSample {
  int64_t cls, r, bin_y, bin_x, row;  // row: of grad_output
  RoiBin<float, kPsroi> bin;
  AxisSample<float> y, x;

  __device__ PoolSample(const RoiPoolArgs& a, int64_t id)
      : cls(id / (a.g.sampling * a.g.sampling) / (a.g.pooled_h * a.g.pooled_w) / a.g.rois),
        r(id / (a.g.sampling * a.g.sampling) / (a.g.pooled_h * a.g.pooled_w) % a.g.rois),
        bin_y(id / (a.g.sampling * a.g.sampling) / a.g.pooled_w % a.g.pooled_h),
        bin_x(id / (a.g.sampling * a.g.sampling) % a.g.pooled_w),
        row((r * a.g.pooled_h + bin_y) * a.g.pooled_w + bin_x),
        bin(a, r, bin_y, bin_x, cls),
        y(bin.sample(bin.y, id / a.g.sampling % a.g.sampling, a.g.height)),
        x(bin.sample(bin.x, id % a.g.sampling, a.g.width)) {}
  // A NaN position reaches no pixel.
  __device__ bool counts() const {
    return bin.image >= 0 && !bin.nan() && y.counts && x.counts;
  }
};

template <bool kPsroi>
__global__ void pool_keys_kernel(RoiPoolArgs a, ListLayout layout, uint32_t* keys, uint32_t* ids) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= layout.samples) return;
  const PoolSample<kPsroi> s(a, i);
  const CellGrid& grid = layout.grid;
  keys[i] = uint32_t(s.counts() ? grid.key(s.cls, s.bin.image, s.y.low, s.x.low, 0) : grid.keys());
  ids[i] = uint32_t(i);
}

template <bool kPsroi>
__global__ void pool_weights_kernel(RoiPoolArgs a, ListLayout layout, uint32_t* ids, float* weights) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= layout.samples) return;
  const PoolSample<kPsroi> s(a, ids[i]);
  const float scale = bin_mask<float>(a, s.r, s.bin_y, s.bin_x) / s.bin.divisor(a.g);
  for (int corner = 0; corner < 4; ++corner) {
    const float y = corner / 2 ? s.y.frac : 1 - s.y.frac, x = corner % 2 ? s.x.frac : 1 - s.x.frac;
    weights[4 * i + corner] = scale * y * x;
  }
  ids[i] = uint32_t(s.row);
}

void launch_with_lists(const RoiPoolArgs& a, void* workspace, cudaStream_t stream) {
  const ListLayout layout = list_layout(a);
  const int64_t blocks = ceil_div(layout.samples, 256);
  auto both = [&](auto psroi) {
    pool_keys_kernel<psroi()><<<blocks, 256, 0, stream>>>(
        a, layout, layout.at<uint32_t>(workspace, layout.keys_in),
        layout.at<uint32_t>(workspace, layout.ids_in));
    check(cudaGetLastError(), "pool keys");
    sort_samples(layout, workspace, stream);
    pool_weights_kernel<psroi()><<<blocks, 256, 0, stream>>>(
        a, layout, layout.at<uint32_t>(workspace, layout.ids_out),
        layout.at<float>(workspace, layout.weights));
    check(cudaGetLastError(), "pool weights");
  };
  a.psroi ? both(std::true_type{}) : both(std::false_type{});
  GatherArgs gather{layout.lists<float>(workspace)};
  gather.dtype = a.dtype;
  gather.images = a.g.batch;
  gather.rows = a.grad_output;
  gather.result = a.grad_input;
  gather.channels = a.g.channels;
  gather.partial = layout.at<float>(workspace, layout.total);
  launch_gather(gather, stream);
  launch_finish_gather(gather, stream);
}

}  // namespace

size_t roi_pool_grad_input_workspace(const RoiPoolArgs& a) {
  if (!takes_lists(a)) return a.g.rois * sizeof(RoiBox);
  const ListLayout layout = list_layout(a);
  return layout.total + gather_workspace(layout, a.g.channels);
}

void launch_roi_pool_grad_input(const RoiPoolArgs& a, void* workspace, cudaStream_t stream) {
  const RoiPoolGeometry& g = a.g;
  if (takes_lists(a)) return launch_with_lists(a, workspace, stream);
  auto* boxes = static_cast<RoiBox*>(workspace);
  const int64_t count = g.batch * g.height * g.width * g.channels;
  dispatch(a.dtype, [&](auto element) {
    using T = decltype(element);
    auto run = [&](auto psroi) {
      boxes_kernel<accumulator_t<T>, psroi()>
          <<<ceil_div(g.rois, 64), 64, 0, stream>>>(a, boxes);
      grad_input_kernel<T, psroi()><<<blocks_for(count, 256), 256, 0, stream>>>(a, boxes);
    };
    a.psroi ? run(std::true_type{}) : run(std::false_type{});
  });
  check(cudaGetLastError(), "roi_pool_grad_input");
}

}  // namespace dcnv2::cuda
