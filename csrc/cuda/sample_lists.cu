// SPDX-License-Identifier: BSD-3-Clause
#include "sample_lists.cuh"

#include <cub/device/device_radix_sort.cuh>

#include <cstdlib>

namespace dcnv2::cuda {

namespace {

constexpr int64_t kRunSamples = int64_t(1) << 22;  // about 150 MiB of lists in float32
constexpr int64_t kMostKeys = (int64_t(1) << 31) - 1;

int64_t align(int64_t bytes) { return (bytes + 255) / 256 * 256; }

int64_t image_samples(const ConvGeometry& g) {
  return g.deform_groups * g.taps() * g.out_height * g.out_width;
}
int64_t lists_an_image(const ConvGeometry& g, Taps taps) {
  return g.deform_groups * (taps == Taps::kApart ? g.taps() : 1);
}
int64_t image_keys(const ConvGeometry& g, Taps taps) {
  return lists_an_image(g, taps) * cells_an_image(g);
}

int bits_for(int64_t keys) {
  int bits = 1;
  while ((int64_t(1) << bits) <= keys) ++bits;
  return bits;
}

size_t sort_workspace(int64_t samples, int64_t keys) {
  size_t bytes = 0;
  uint32_t* none = nullptr;
  check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, none, none, none, none, samples, 0,
                                        bits_for(keys)),
        "sort workspace");
  return bytes;
}

// Where everything lies in the workspace.
struct Layout {
  int64_t keys_in, keys_out, ids_in, ids_out, weights, start, sort, total;

  Layout(const ConvGeometry& g, int64_t images, Taps taps, size_t acc_size) {
    const int64_t samples = images * image_samples(g), keys = images * image_keys(g, taps);
    int64_t at = 0;
    auto take = [&](int64_t bytes) { return std::exchange(at, at + align(bytes)); };
    keys_in = take(samples * 4);
    keys_out = take(samples * 4);
    ids_in = take(samples * 4);
    ids_out = take(samples * 4);
    weights = take(samples * 4 * int64_t(acc_size));
    start = take((keys + 1) * 4);
    sort = take(int64_t(sort_workspace(samples, keys)));
    total = at;
  }
};

// A sample before the sort: its position counts over (deform group, tap, pixel), or over (deform
// group, pixel, tap) with the taps together.
struct SampleId {
  int64_t deform_group, tap, pixel;

  __device__ SampleId(const ConvGeometry& g, int64_t pixels, Taps taps, int64_t id) {
    const int64_t inner = taps == Taps::kApart ? pixels : g.taps();
    const int64_t middle = taps == Taps::kApart ? g.taps() : pixels;
    const int64_t low = id % inner, high = id / inner % middle;
    deform_group = id / inner / middle;
    tap = taps == Taps::kApart ? high : low;
    pixel = taps == Taps::kApart ? low : high;
  }
};

template <class Acc>
__global__ void keys_kernel(ConvArgs a, int64_t first_image, int64_t images, Taps taps,
                            uint32_t* keys, uint32_t* ids) {
  const ConvGeometry& g = a.g;
  const int64_t pixels = images * g.out_height * g.out_width;
  const int64_t list_taps = taps == Taps::kApart ? g.taps() : 1;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
       i < g.deform_groups * g.taps() * pixels; i += int64_t(gridDim.x) * blockDim.x) {
    const SampleId id(g, pixels, taps, i);
    OutPixel p = out_pixel(g, id.pixel);
    const int64_t n = p.n;
    p.n += first_image;
    Acc mask;
    const Sample<Acc> s = load_sample<Acc>(a, p, id.tap, id.deform_group, mask);
    const int64_t list = id.deform_group * list_taps + (taps == Taps::kApart ? id.tap : 0);
    const int64_t none = g.deform_groups * list_taps * images * cells_an_image(g);
    keys[i] = uint32_t(s.inside ? cell_key(g, images, list, n, s.y, s.x, 0) : none);
    ids[i] = uint32_t(i);
  }
}

// In the sorted order: each sample's corner weights; its id becomes its row.
template <class Acc>
__global__ void weights_kernel(ConvArgs a, int64_t first_image, int64_t images, Taps taps,
                               uint32_t* ids, Acc* weights) {
  const ConvGeometry& g = a.g;
  const int64_t pixels = images * g.out_height * g.out_width;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
       i < g.deform_groups * g.taps() * pixels; i += int64_t(gridDim.x) * blockDim.x) {
    const SampleId id(g, pixels, taps, ids[i]);
    OutPixel p = out_pixel(g, id.pixel);
    p.n += first_image;
    Acc mask;
    const Sample<Acc> s = load_sample<Acc>(a, p, id.tap, id.deform_group, mask);
    const Corners<Acc> c = make_corners(s, g.height, g.width);
    for (int corner = 0; corner < 4; ++corner) weights[4 * i + corner] = mask * c.weight[corner];
    ids[i] = uint32_t(taps == Taps::kApart ? id.pixel : id.pixel * g.taps() + id.tap);
  }
}

// start[key] = how many samples have a smaller key.
__global__ void start_kernel(const uint32_t* keys, int64_t samples, int64_t count, uint32_t* start) {
  for (int64_t key = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; key < count;
       key += int64_t(gridDim.x) * blockDim.x) {
    int64_t low = 0, high = samples;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (keys[middle] < key) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    start[key] = uint32_t(low);
  }
}

}  // namespace

int64_t images_a_run(const ConvGeometry& g) {
  const int64_t samples = image_samples(g), keys = image_keys(g, Taps::kApart);
  if (samples > kMostKeys || keys > kMostKeys) {
    throw std::runtime_error("dcnv2: an image of " + std::to_string(samples) +
                             " samples is too large for the gradient of input (at most 2^31 - 1)");
  }
  const int64_t fit = std::min(kRunSamples / std::max<int64_t>(samples, 1), kMostKeys / keys);
  return std::clamp<int64_t>(fit, 1, std::max<int64_t>(g.batch, 1));
}

template <class Acc>
size_t sample_lists_workspace(const ConvGeometry& g, int64_t images, Taps taps) {
  return Layout(g, images, taps, sizeof(Acc)).total;
}

template <class Acc>
SampleLists<Acc> build_sample_lists(const ConvArgs& a, int64_t first_image, int64_t images, Taps taps,
                                    void* workspace, cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const int64_t samples = images * image_samples(g), keys = images * image_keys(g, taps);
  const Layout layout(g, images, taps, sizeof(Acc));
  char* base = static_cast<char*>(workspace);
  auto* keys_in = reinterpret_cast<uint32_t*>(base + layout.keys_in);
  auto* keys_out = reinterpret_cast<uint32_t*>(base + layout.keys_out);
  auto* ids_in = reinterpret_cast<uint32_t*>(base + layout.ids_in);
  auto* ids_out = reinterpret_cast<uint32_t*>(base + layout.ids_out);
  auto* weights = reinterpret_cast<Acc*>(base + layout.weights);
  auto* start = reinterpret_cast<uint32_t*>(base + layout.start);

  keys_kernel<Acc><<<blocks_for(samples, 256), 256, 0, stream>>>(a, first_image, images, taps,
                                                                 keys_in, ids_in);
  check(cudaGetLastError(), "sample keys");
  size_t bytes = sort_workspace(samples, keys);
  check(cub::DeviceRadixSort::SortPairs(base + layout.sort, bytes, keys_in, keys_out, ids_in, ids_out,
                                        samples, 0, bits_for(keys), stream),
        "sample sort");
  weights_kernel<Acc><<<blocks_for(samples, 256), 256, 0, stream>>>(a, first_image, images, taps,
                                                                    ids_out, weights);
  check(cudaGetLastError(), "sample weights");
  start_kernel<<<blocks_for(keys + 1, 256), 256, 0, stream>>>(keys_out, samples, keys + 1, start);
  check(cudaGetLastError(), "sample list starts");
  return {first_image, images, ids_out, weights, start};
}

template size_t sample_lists_workspace<float>(const ConvGeometry&, int64_t, Taps);
template size_t sample_lists_workspace<double>(const ConvGeometry&, int64_t, Taps);
template SampleLists<float> build_sample_lists<float>(const ConvArgs&, int64_t, int64_t, Taps, void*,
                                                      cudaStream_t);
template SampleLists<double> build_sample_lists<double>(const ConvArgs&, int64_t, int64_t, Taps,
                                                        void*, cudaStream_t);

}  // namespace dcnv2::cuda
