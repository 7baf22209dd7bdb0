// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/sample_sort/cell_lists.cuh"

#include "cuda/common/common.cuh"

#include "cuda/sample_sort/sample_lists.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Kernel

// Ids fit 32 bits, so that divisions are cheap.
__global__ void __launch_bounds__(256)
    cells_kernel(ConvArgs a, int64_t first_image, CellGrid grid, uint32_t samples, uint32_t* keys,
                 uint32_t* ids) {
  const ConvGeometry& g = a.g;
  const uint32_t taps = uint32_t(g.taps()), rows = samples / uint32_t(g.deform_groups);
  const uint32_t height = uint32_t(g.out_height), width = uint32_t(g.out_width);
  const uint32_t id = blockIdx.x * 256 + threadIdx.x;
  if (id >= samples) return;
  const uint32_t row = id % rows, pixel = row / taps, line = pixel / width, n = line / height;
  const OutPixel p{first_image + n, line % height, pixel % width};
  float mask;
  const Sample<float> s = load_sample<float>(a, p, row % taps, id / rows, mask);
  keys[id] = uint32_t(s.inside ? grid.cell(n, s.y, s.x, 0) : grid.cells());
  ids[id] = id;
}

}  // namespace

// ---- Launch

static CellGrid grid_of(const ConvGeometry& g, int64_t images) {
  return {g.deform_groups, images, g.height, g.width};
}

SortLayout cell_lists_layout(const ConvGeometry& g, int64_t images) {
  return SortLayout(g.deform_groups, grid_of(g, images).cells(), sample_count(g, images));
}

CellLists build_cell_lists(const ConvArgs& a, int64_t first_image, int64_t images, void* workspace,
                           cudaStream_t stream) {
  const SortLayout layout = cell_lists_layout(a.g, images);
  const CellGrid grid = grid_of(a.g, images);
  cells_kernel<<<unsigned(ceil_div(layout.samples, 256)), 256, 0, stream>>>(
      a, first_image, grid, uint32_t(layout.samples),
      layout.at<uint32_t>(workspace, layout.keys_in),
      layout.at<uint32_t>(workspace, layout.ids_in));
  check(cudaGetLastError(), "cells of samples");
  sort_samples(layout, workspace, stream);
  return CellLists(layout, grid, 0, workspace);
}

}  // namespace dcnv2::cuda
