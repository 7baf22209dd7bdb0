// SPDX-License-Identifier: BSD-3-Clause
// grad_input[q, c] = sum over the bins that touch pixel q of grad_output * mask * weight_y *
// weight_x / divisor. Nothing is scattered: where the number of samples is known, they are sorted by
// pixel and gathered; else tiles of pixels look for the bins that touch them.
#include "gather.cuh"
#include "roi_bin.cuh"
#include "roi_tiles.cuh"

namespace dcnv2::cuda {

namespace {

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
  if (!takes_lists(a)) return roi_tiles_workspace(a);
  const ListLayout layout = list_layout(a);
  return layout.total + gather_workspace(layout, a.g.channels);
}

void launch_roi_pool_grad_input(const RoiPoolArgs& a, void* workspace, cudaStream_t stream) {
  takes_lists(a) ? launch_with_lists(a, workspace, stream) : launch_roi_tiles(a, workspace, stream);
}

}  // namespace dcnv2::cuda
