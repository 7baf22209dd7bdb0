// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/sample_sort/sample_lists.cuh"

#include "cuda/common/common.cuh"
#include "cuda/sample_sort/counted_samples.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Sizes

constexpr int64_t kPassSamples = int64_t(1) << 21;  // about 70 MiB of lists in float32
constexpr int64_t kMaxKeys = (int64_t(1) << 31) - 1;

CellGrid grid_of(const ConvGeometry& g, int64_t images) {
  return {g.deform_groups * g.taps(), images, g.height, g.width};
}

// The spare memory of the lists is what only the counting needs. The weights follow, since they are
// written while that is read, in the place of the scan's.
struct ListsLayout {
  CountLayout count;
  int64_t spare, weights, total;

  ListsLayout(const ConvGeometry& g, int64_t images, size_t acc_size)
      : count(grid_of(g, images).keys(), sample_count(g, images)),
        spare(count.scratch),
        weights(count.scan),
        total(std::max(count.total, weights + count.samples * 4 * int64_t(acc_size))) {}
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
__global__ void count_kernel(ConvArgs a, int64_t first_image, CellGrid grid, int64_t samples,
                             uint32_t pixels, CountedSamples counted) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < samples;
       i += int64_t(gridDim.x) * blockDim.x) {
    const SampleIndex id(pixels, uint32_t(i));
    uint32_t n;
    Acc mask;
    const Sample<Acc> s = id.load(a, first_image, n, mask);
    counted.count(uint32_t(i),
                  s.inside ? uint32_t(id.list * grid.cells() + grid.cell(n, s.y, s.x, 0)) : kNoKey);
  }
}

// Writes the corner weights and rows of the samples in order. Their keys are needed only if some of
// them are dense.
template <class Acc>
__global__ void weights_kernel(ConvArgs a, int64_t first_image, CellGrid grid, int64_t samples,
                               uint32_t pixels, CountedSamples counted, uint32_t* rows,
                               uint32_t* keys, Acc* weights) {
  const int64_t inside = counted.row_offsets[grid.keys()];
  const bool any_dense = *counted.dense_keys != 0;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < samples;
       i += int64_t(gridDim.x) * blockDim.x) {
    if (i >= inside) {
      if (any_dense) keys[i] = uint32_t(grid.keys());
      continue;
    }
    const CountedSamples::Ranked sample = counted.ranked(uint32_t(i));
    const SampleIndex id(pixels, sample.id);
    uint32_t n;
    Acc mask;
    const Corners<Acc> c = make_corners(id.load(a, first_image, n, mask), a.g.height, a.g.width);
    Acc* to = weights + 4 * int64_t(sample.place);
    for (int corner = 0; corner < 4; ++corner) to[corner] = mask * c.weight[corner];
    rows[sample.place] = id.pixel;
    if (any_dense) keys[sample.place] = sample.key;
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
  const CountLayout& layout = lists.count;
  const CellGrid grid = grid_of(a.g, images);
  const CountedSamples counted(layout, workspace);
  const unsigned blocks = blocks_for(layout.samples, 256);
  const auto image_pixels = uint32_t(a.g.out_height * a.g.out_width);
  const uint32_t pixels = uint32_t(images) * image_pixels;
  auto words = [&](int64_t place) {
    return reinterpret_cast<uint32_t*>(static_cast<char*>(workspace) + place);
  };
  uint32_t *rows = words(layout.ids), *keys = words(layout.keys_out);
  auto* weights = reinterpret_cast<Acc*>(words(lists.weights));
  clear_counts(layout, workspace, stream);
  count_kernel<Acc>
      <<<blocks, 256, 0, stream>>>(a, first_image, grid, layout.samples, pixels, counted);
  check(cudaGetLastError(), "sample keys");
  place_samples(layout, image_pixels, workspace, stream);  // the samples of a cell are of one image
  weights_kernel<Acc><<<blocks, 256, 0, stream>>>(a, first_image, grid, layout.samples, pixels,
                                                  counted, rows, keys, weights);
  check(cudaGetLastError(), "sample weights");
  return {.grid = grid,
          .row = rows,
          .weights = weights,
          .row_offsets = counted.row_offsets,
          .keys = keys,
          .samples = uint32_t(layout.samples),
          .has_oversized = counted.dense_keys,
          .spare = words(lists.spare)};
}

template SampleLists<float> build_sample_lists<float>(const ConvArgs&, int64_t, int64_t, void*,
                                                      cudaStream_t);
template SampleLists<double> build_sample_lists<double>(const ConvArgs&, int64_t, int64_t, void*,
                                                        cudaStream_t);

}  // namespace dcnv2::cuda
