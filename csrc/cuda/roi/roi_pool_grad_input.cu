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

// The cells of all levels, one level after the other.
struct LevelCells {
  CellGrid grid[kMostLevels];
  int64_t first[kMostLevels];  // the first cell of each grid
  int64_t cells = 0;

  explicit LevelCells(const RoiPoolGeometry& g) {
    for (int level = 0; level < g.levels; ++level) {
      grid[level] = {g.classes, g.batch, g.level[level].height, g.level[level].width};
      first[level] = cells;
      cells += grid[level].cells();
    }
  }
};

bool takes_lists(const RoiPoolArgs& a) {
  const RoiPoolGeometry& g = a.g;
  return takes_vec16(a) && g.sampling > 0 && samples_of(g) <= kMaxSamples &&
         g.classes * LevelCells(g).cells < INT32_MAX &&
         g.rois * g.pooled_h * g.pooled_w < INT32_MAX;
}

SortLayout sort_layout(const RoiPoolArgs& a) {
  return SortLayout(a.g.classes, LevelCells(a.g).cells, samples_of(a.g));
}
int64_t weights_bytes(const SortLayout& layout) {
  return align_256(layout.samples * int64_t(sizeof(float4)));
}

// ---- Kernel

// The sample with an id, which numbers (class, roi, bin, row and column of the bin's grid).
template <class Rule>
__global__ void pool_cells_kernel(RoiPoolArgs a, LevelCells cells, uint32_t samples, uint32_t* keys,
                                  uint32_t* ids, float4* weights) {
  const RoiPoolGeometry& g = a.g;
  const uint32_t id = blockIdx.x * 256 + threadIdx.x, side = uint32_t(g.sampling);
  if (id >= samples) return;
  const uint32_t bin_x = id / (side * side) % uint32_t(g.pooled_w);
  const uint32_t line = id / (side * side) / uint32_t(g.pooled_w);
  const uint32_t bin_y = line % uint32_t(g.pooled_h), roi = line / uint32_t(g.pooled_h);
  const uint32_t r = roi % uint32_t(g.rois), cls = roi / uint32_t(g.rois);
  const RoiBin<float, Rule> bin(a, r, bin_y, bin_x, cls);
  const CellGrid& grid = cells.grid[bin.level];
  const AxisSample<float> y = bin.sample(bin.y, id / side % side, grid.height);
  const AxisSample<float> x = bin.sample(bin.x, id % side, grid.width);
  // A NaN position reaches no pixel.
  const bool counts = bin.image >= 0 && !bin.nan() && y.counts && x.counts;
  keys[id] = uint32_t(counts ? cells.first[bin.level] + grid.cell(bin.image, y.low, x.low, 0)
                             : cells.cells);
  ids[id] = id;
  const float scale = bin_mask<float, Rule>(a, r, bin_y, bin_x) / bin.divisor(g);
  const float top = scale * (1 - y.frac), bottom = scale * y.frac;
  weights[id] = {top * (1 - x.frac), top * x.frac, bottom * (1 - x.frac), bottom * x.frac};
}

// ---- Launch

// What one level gathers from the sorted samples.
GatherArgs level_gather(const RoiPoolArgs& a, const SortLayout& layout, const LevelCells& cells,
                        int level, void* workspace) {
  const int64_t row_bytes = a.g.channels * int64_t(element_size(a.dtype));
  auto* weights = layout.at<char>(workspace, layout.total);
  GatherArgs gather{CellLists(layout, cells.grid[level], cells.first[level], workspace)};
  gather.dtype = a.dtype;
  gather.images = a.g.batch;
  gather.rows = {static_cast<const char*>(a.grad_output), uint32_t(row_bytes),
                 row_bytes / a.g.classes};
  gather.row_samples = uint32_t(a.g.sampling * a.g.sampling);
  gather.weights = {weights, uint32_t(sizeof(float4)),
                    layout.samples / a.g.classes * int64_t(sizeof(float4))};
  gather.result = a.grad_input[level];
  gather.channels = a.g.channels;
  gather.partial = layout.at<float>(workspace, layout.total + weights_bytes(layout));
  return gather;
}

void launch_with_lists(const RoiPoolArgs& a, const SortLayout& layout, void* workspace,
                       cudaStream_t stream) {
  auto words = [&](int64_t place) { return layout.at<uint32_t>(workspace, place); };
  auto* weights = layout.at<float4>(workspace, layout.total);
  const LevelCells cells(a.g);
  dispatch_rule(a, [&](auto rule) {
    pool_cells_kernel<decltype(rule)><<<unsigned(ceil_div(layout.samples, 256)), 256, 0, stream>>>(
        a, cells, uint32_t(layout.samples), words(layout.keys_in), words(layout.ids_in), weights);
  });
  check(cudaGetLastError(), "cells of pooled samples");
  sort_samples(layout, workspace, stream);
  for (int level = 0; level < a.g.levels; ++level) {
    if (a.grad_input[level] == nullptr) continue;
    launch_gather(level_gather(a, layout, cells, level, workspace), stream);
  }
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
