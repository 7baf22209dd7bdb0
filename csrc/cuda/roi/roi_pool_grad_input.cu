// SPDX-License-Identifier: BSD-3-Clause
// grad_input[q, c] = sum of grad_output * mask * weight_y * weight_x / divisor over the bins that
// touch pixel q. Nothing is scattered: if the number of samples is known in advance, they are
// sorted by pixel and gathered; otherwise tiles of pixels search the bins that touch them.
#include "cuda/sample_sort/gather.cuh"
#include "cuda/roi/roi_bin.cuh"
#include "cuda/roi/roi_tiles.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Sorted samples

constexpr int64_t kMaxSamples = int64_t(1) << 24;

int64_t samples_of(const RoiPoolGeometry& g) {
  return g.rois * g.classes * g.pooled_h * g.pooled_w * g.sampling * g.sampling;
}

bool takes_lists(const RoiPoolArgs& a) {
  const RoiPoolGeometry& g = a.g;
  const CellGrid grid{g.classes, g.batch, g.height, g.width};
  return takes_vec16(a) && g.sampling > 0 && samples_of(g) <= kMaxSamples &&
         grid.keys() < INT32_MAX && g.rois * g.pooled_h * g.pooled_w < INT32_MAX;
}

SortLayout sort_layout(const RoiPoolArgs& a) {
  const RoiPoolGeometry& g = a.g;
  return SortLayout({g.classes, g.batch, g.height, g.width}, ListOrder::kCellsThenLists,
                    samples_of(g));
}
int64_t weights_bytes(const SortLayout& layout) {
  return align_256(layout.samples * int64_t(sizeof(float4)));
}

// ---- Kernel

// The sample with an id, which numbers (class, roi, bin, row and column of the bin's grid).
template <bool kPsroi>
__global__ void pool_cells_kernel(RoiPoolArgs a, CellGrid grid, uint32_t samples, uint32_t* keys,
                                  uint32_t* ids, float4* weights) {
  const RoiPoolGeometry& g = a.g;
  const uint32_t id = blockIdx.x * 256 + threadIdx.x, side = uint32_t(g.sampling);
  if (id >= samples) return;
  const uint32_t bin_x = id / (side * side) % uint32_t(g.pooled_w);
  const uint32_t line = id / (side * side) / uint32_t(g.pooled_w);
  const uint32_t bin_y = line % uint32_t(g.pooled_h), roi = line / uint32_t(g.pooled_h);
  const uint32_t r = roi % uint32_t(g.rois), cls = roi / uint32_t(g.rois);
  const RoiBin<float, kPsroi> bin(a, r, bin_y, bin_x, cls);
  const AxisSample<float> y = bin.sample(bin.y, id / side % side, g.height);
  const AxisSample<float> x = bin.sample(bin.x, id % side, g.width);
  // A NaN position reaches no pixel.
  const bool counts = bin.image >= 0 && !bin.nan() && y.counts && x.counts;
  keys[id] = uint32_t(counts ? grid.cell(bin.image, y.low, x.low, 0) : grid.cells());
  ids[id] = id;
  const float scale = bin_mask<float>(a, r, bin_y, bin_x) / bin.divisor(g);
  const float top = scale * (1 - y.frac), bottom = scale * y.frac;
  weights[id] = {top * (1 - x.frac), top * x.frac, bottom * (1 - x.frac), bottom * x.frac};
}

// ---- Launch

void launch_with_lists(const RoiPoolArgs& a, const SortLayout& layout, void* workspace,
                       cudaStream_t stream) {
  auto words = [&](int64_t place) { return layout.at<uint32_t>(workspace, place); };
  auto* weights = layout.at<float4>(workspace, layout.total);
  auto* kernel = a.psroi ? pool_cells_kernel<true> : pool_cells_kernel<false>;
  kernel<<<unsigned(ceil_div(layout.samples, 256)), 256, 0, stream>>>(
      a, layout.grid, uint32_t(layout.samples), words(layout.keys_in), words(layout.ids_in),
      weights);
  check(cudaGetLastError(), "cells of pooled samples");
  sort_samples(layout, workspace, stream);
  const int64_t row_bytes = a.g.channels * int64_t(element_size(a.dtype));
  GatherArgs gather{CellLists(layout, workspace)};
  gather.dtype = a.dtype;
  gather.images = a.g.batch;
  gather.rows = {static_cast<const char*>(a.grad_output), uint32_t(row_bytes),
                 row_bytes / a.g.classes};
  gather.row_samples = uint32_t(a.g.sampling * a.g.sampling);
  gather.weights = {reinterpret_cast<const char*>(weights), uint32_t(sizeof(float4)),
                    layout.samples / a.g.classes * int64_t(sizeof(float4))};
  gather.result = a.grad_input;
  gather.channels = a.g.channels;
  gather.partial = layout.at<float>(workspace, layout.total + weights_bytes(layout));
  launch_gather(gather, stream);
}

}  // namespace

PassPlan plan_roi_pool_grad_input(const RoiPoolArgs& a) {
  if (!takes_lists(a)) {
    return {.pass = "grad_input by tiles",
            .workspace = roi_tiles_workspace(a),
            .launch = [a](const PassMemory& memory, cudaStream_t stream) {
              launch_roi_tiles(a, memory.workspace, stream);
            }};
  }
  const SortLayout layout = sort_layout(a);
  return {.pass = "grad_input by sorted samples",
          .workspace =
              size_t(layout.total + weights_bytes(layout)) + gather_workspace(layout, a.g.channels),
          .launch = [a, layout](const PassMemory& memory, cudaStream_t stream) {
            launch_with_lists(a, layout, memory.workspace, stream);
          }};
}

}  // namespace dcnv2::cuda
