// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/sample_sort/sample_lists.cuh"

#include "cuda/common/common.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Sizes

constexpr int64_t kPassSamples = int64_t(1) << 21;  // about 70 MiB of lists in float32
constexpr int64_t kMaxKeys = (int64_t(1) << 31) - 1;

CellGrid grid_of(const ConvGeometry& g, int64_t images) {
  return {g.deform_groups * g.taps(), images, g.height, g.width};
}
SortLayout layout_of(const ConvGeometry& g, int64_t images) {
  const CellGrid grid = grid_of(g, images);
  return SortLayout(grid.lists, grid.cells(), ListOrder::kListsThenCells, sample_count(g, images));
}

// The weights and the spare memory of the lists take the place of what only the sort needs.
struct ListsLayout {
  SortLayout sort;
  int64_t weights, spare, total;

  ListsLayout(const ConvGeometry& g, int64_t images, size_t acc_size)
      : sort(layout_of(g, images)),
        weights(sort.free()),
        spare(weights + align_256(sort.samples * 4 * int64_t(acc_size))),
        total(std::max(sort.total, spare + align_256(sort.samples * 8))) {}
};

// ---- Kernels

// The sample with an id, which numbers (list, pixel). Ids fit 32 bits, so that divisions are cheap.
struct SampleIndex {
  uint32_t list, pixel;

  __device__ SampleIndex(uint32_t pixels, uint32_t id) : list(id / pixels), pixel(id % pixels) {}

  template <class Acc>
  __device__ Sample<Acc> load(const ConvArgs& a, int64_t first_image, uint32_t& n,
                              Acc& mask) const {
    const uint32_t row = pixel / uint32_t(a.g.out_width), height = uint32_t(a.g.out_height);
    n = row / height;
    const OutPixel p{first_image + n, row % height, pixel % uint32_t(a.g.out_width)};
    return load_sample<Acc>(a, p, list % uint32_t(a.g.taps()), list / uint32_t(a.g.taps()), mask);
  }
};

template <class Acc>
__global__ void keys_kernel(ConvArgs a, int64_t first_image, CellGrid grid, int64_t samples,
                            uint32_t pixels, uint32_t* keys, uint32_t* ids,
                            uint32_t* has_oversized) {
  if (blockIdx.x == 0 && threadIdx.x == 0) *has_oversized = 0;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < samples;
       i += int64_t(gridDim.x) * blockDim.x) {
    const SampleIndex id(pixels, uint32_t(i));
    uint32_t n;
    Acc mask;
    const Sample<Acc> s = id.load(a, first_image, n, mask);
    keys[i] = uint32_t(s.inside ? id.list * grid.cells() + grid.cell(n, s.y, s.x, 0) : grid.keys());
    ids[i] = uint32_t(i);
  }
}

// Writes the corner weights and rows of the samples in sorted order.
template <class Acc>
__global__ void weights_kernel(ConvArgs a, int64_t first_image, int64_t samples, uint32_t pixels,
                               uint32_t* ids, Acc* weights) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < samples;
       i += int64_t(gridDim.x) * blockDim.x) {
    const SampleIndex id(pixels, ids[i]);
    uint32_t n;
    Acc mask;
    const Corners<Acc> c = make_corners(id.load(a, first_image, n, mask), a.g.height, a.g.width);
    for (int corner = 0; corner < 4; ++corner) weights[4 * i + corner] = mask * c.weight[corner];
    ids[i] = id.pixel;
  }
}

}  // namespace

// ---- Launch

int64_t images_per_pass(const ConvGeometry& g) {
  const int64_t samples = sample_count(g, 1), keys = grid_of(g, 1).keys();
  if (samples > kMaxKeys || keys > kMaxKeys) {
    throw std::runtime_error("dcnv2: an image of " + std::to_string(samples) +
                             " samples is too large for the gradient of input (at most 2^31 - 1)");
  }
  const int64_t fit = std::min(kPassSamples / std::max<int64_t>(samples, 1), kMaxKeys / keys);
  const int64_t batch = std::max<int64_t>(g.batch, 1);
  const int64_t passes = ceil_div(batch, std::clamp<int64_t>(fit, 1, batch));
  return ceil_div(batch, passes);
}

int64_t sample_count(const ConvGeometry& g, int64_t images) {
  return images * g.deform_groups * g.taps() * g.out_height * g.out_width;
}

int64_t sample_lists_workspace(const ConvGeometry& g, int64_t images, size_t acc_size) {
  return ListsLayout(g, images, acc_size).total;
}

template <class Acc>
SampleLists<Acc> build_sample_lists(const ConvArgs& a, int64_t first_image, int64_t images,
                                    void* workspace, cudaStream_t stream) {
  const ListsLayout lists(a.g, images, sizeof(Acc));
  const SortLayout& layout = lists.sort;
  const CellGrid grid = grid_of(a.g, images);
  const unsigned blocks = blocks_for(layout.samples, 256);
  const auto pixels = uint32_t(images * a.g.out_height * a.g.out_width);
  auto words = [&](int64_t place) { return layout.at<uint32_t>(workspace, place); };
  auto* weights = layout.at<Acc>(workspace, lists.weights);
  keys_kernel<Acc><<<blocks, 256, 0, stream>>>(a, first_image, grid, layout.samples, pixels,
                                               words(layout.keys_in), words(layout.ids_in),
                                               words(layout.has_oversized));
  check(cudaGetLastError(), "sample keys");
  sort_samples(layout, workspace, stream);
  weights_kernel<Acc><<<blocks, 256, 0, stream>>>(a, first_image, layout.samples, pixels,
                                                  words(layout.ids_out), weights);
  check(cudaGetLastError(), "sample weights");
  return {.grid = grid,
          .row = words(layout.ids_out),
          .weights = weights,
          .row_offsets = words(layout.row_offsets),
          .keys = words(layout.keys_out),
          .samples = uint32_t(layout.samples),
          .has_oversized = words(layout.has_oversized),
          .spare = words(lists.spare)};
}

template SampleLists<float> build_sample_lists<float>(const ConvArgs&, int64_t, int64_t, void*,
                                                      cudaStream_t);
template SampleLists<double> build_sample_lists<double>(const ConvArgs&, int64_t, int64_t, void*,
                                                        cudaStream_t);

}  // namespace dcnv2::cuda
