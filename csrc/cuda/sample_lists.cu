// SPDX-License-Identifier: BSD-3-Clause
#include "sample_lists.cuh"

#include <cub/device/device_radix_sort.cuh>

#include <cstdlib>

namespace dcnv2::cuda {

namespace {

constexpr int64_t kRunSamples = int64_t(1) << 21;  // about 75 MiB of lists in float32
constexpr int64_t kMostKeys = (int64_t(1) << 31) - 1;

int64_t align(int64_t bytes) { return (bytes + 255) / 256 * 256; }

int64_t image_samples(const ConvGeometry& g) {
  return g.deform_groups * g.taps() * g.out_height * g.out_width;
}
int64_t lists_an_image(const ConvGeometry& g, Taps taps) {
  return g.deform_groups * (taps == Taps::kApart ? g.taps() : 1);
}
CellGrid cells(const ConvGeometry& g, int64_t images, Taps taps) {
  return {lists_an_image(g, taps), images, g.height, g.width};
}

int bits_for(int64_t keys) {
  int bits = 1;
  while ((int64_t(1) << bits) <= keys) ++bits;
  return bits;
}

// CUB asks the driver before it answers, which takes longer than a launch: the last answer is kept.
size_t sort_workspace(int64_t samples, int64_t keys) {
  struct Answer {
    int device = -1, bits = 0;
    int64_t samples = 0;
    size_t bytes = 0;
  };
  thread_local Answer last;
  const int bits = bits_for(keys);
  int device = 0;
  check(cudaGetDevice(&device), "device");
  if (device != last.device || bits != last.bits || samples != last.samples) {
    size_t bytes = 0;
    uint32_t* none = nullptr;
    check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, none, none, none, none, samples, 0, bits),
          "sort workspace");
    last = {device, bits, samples, bytes};
  }
  return last.bytes;
}

// A sample before the sort: its position counts over (deform group, tap, pixel), or over (deform
// group, pixel, tap) with the taps together. Positions fit 32 bits, in which divisions are cheap.
struct SampleId {
  uint32_t deform_group, tap, pixel;

  __device__ SampleId(const ConvGeometry& g, uint32_t pixels, Taps taps, uint32_t id) {
    const uint32_t inner = taps == Taps::kApart ? pixels : uint32_t(g.taps());
    const uint32_t middle = taps == Taps::kApart ? uint32_t(g.taps()) : pixels;
    const uint32_t rest = id / inner, low = id % inner, high = rest % middle;
    deform_group = rest / middle;
    tap = taps == Taps::kApart ? high : low;
    pixel = taps == Taps::kApart ? low : high;
  }
  __device__ OutPixel place(const ConvGeometry& g) const {
    const uint32_t row = pixel / uint32_t(g.out_width);
    return {row / uint32_t(g.out_height), row % uint32_t(g.out_height), pixel % uint32_t(g.out_width)};
  }
};

template <class Acc>
__global__ void keys_kernel(ConvArgs a, int64_t first_image, CellGrid grid, Taps taps,
                            uint32_t* keys, uint32_t* ids) {
  const ConvGeometry& g = a.g;
  const int64_t pixels = grid.images * g.out_height * g.out_width;
  const int64_t list_taps = taps == Taps::kApart ? g.taps() : 1;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
       i < g.deform_groups * g.taps() * pixels; i += int64_t(gridDim.x) * blockDim.x) {
    const SampleId id(g, uint32_t(pixels), taps, uint32_t(i));
    OutPixel p = id.place(g);
    const int64_t n = p.n;
    p.n += first_image;
    Acc mask;
    const Sample<Acc> s = load_sample<Acc>(a, p, id.tap, id.deform_group, mask);
    const int64_t list = id.deform_group * list_taps + (taps == Taps::kApart ? id.tap : 0);
    keys[i] = uint32_t(s.inside ? grid.key(list, n, s.y, s.x, 0) : grid.keys());
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
    const SampleId id(g, uint32_t(pixels), taps, ids[i]);
    OutPixel p = id.place(g);
    p.n += first_image;
    Acc mask;
    const Sample<Acc> s = load_sample<Acc>(a, p, id.tap, id.deform_group, mask);
    const Corners<Acc> c = make_corners(s, g.height, g.width);
    for (int corner = 0; corner < 4; ++corner) weights[4 * i + corner] = mask * c.weight[corner];
    ids[i] = taps == Taps::kApart ? id.pixel : id.pixel * uint32_t(g.taps()) + id.tap;
  }
}

// start[key] = how many samples have a smaller key, for the keys 0 .. last: every sample writes those
// between the key before it and its own, a warp together where they are many. No pieces so far.
__global__ void start_kernel(const uint32_t* keys, int64_t samples, uint32_t last, uint32_t* start,
                             uint32_t* piece_count) {
  constexpr uint32_t kFew = 8, kAll = 0xffffffffu;
  const uint32_t lane = threadIdx.x % 32;
  if (blockIdx.x == 0 && threadIdx.x == 0) *piece_count = 0;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t base = blockIdx.x * int64_t(blockDim.x) + threadIdx.x - lane; base <= samples; base += step) {
    const int64_t i = base + lane;
    uint32_t first = 0, end = 0;  // the keys that this sample writes; behind the last one, all that are left
    if (i <= samples) {
      first = i > 0 ? keys[i - 1] + 1 : 0;
      end = i < samples ? keys[i] + 1 : last + 1;
    }
    const bool many = end - first > kFew;
    if (!many) {
      for (uint32_t key = first; key < end; ++key) start[key] = uint32_t(i);
    }
    for (uint32_t lanes = __ballot_sync(kAll, many); lanes != 0; lanes &= lanes - 1) {
      const int from = __ffs(int(lanes)) - 1;
      const uint32_t to = __shfl_sync(kAll, end, from), of = uint32_t(base + from);
      for (uint32_t key = __shfl_sync(kAll, first, from) + lane; key < to; key += 32) start[key] = of;
    }
  }
}

// Writes the pieces of the pixels around which there are many samples.
__global__ void pieces_kernel(CellGrid grid, const uint32_t* start, uint32_t* count, Piece* pieces) {
  const int64_t pixels = grid.lists * grid.images * grid.height * grid.width;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < pixels;
       i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t x = i % grid.width, y = i / grid.width % grid.height;
    const int64_t n = i / grid.width / grid.height;  // over lists and images
    uint32_t entries = 0;
    for (int down = 0; down < 2; ++down) {
      const int64_t left = grid.key(0, n, y, x, 2 * down + 1);
      entries += start[left + 2] - start[left];
    }
    if (entries <= kPieceEntries) continue;
    const uint32_t parts = (entries + kPieceEntries - 1) / kPieceEntries;
    const uint32_t first = atomicAdd(count, parts);  // where they lie changes no sum
    for (uint32_t part = 0; part < parts; ++part) {
      pieces[first + part] = {uint32_t(i), part, first, parts};
    }
  }
}

}  // namespace

ListLayout::ListLayout(const CellGrid& grid, int64_t samples, size_t acc_size)
    : grid(grid), samples(samples), most_pieces(ceil_div(8 * samples, kPieceEntries)) {
  int64_t at = 0;
  auto take = [&](int64_t bytes) { return std::exchange(at, at + align(bytes)); };
  keys_in = take(samples * 4);
  keys_out = take(samples * 4);
  ids_in = take(samples * 4);
  ids_out = take(samples * 4);
  weights = take(samples * 4 * int64_t(acc_size));
  start = take((grid.keys() + 1) * 4);
  count = take(4);
  pieces = take(most_pieces * int64_t(sizeof(Piece)));
  sort = take(int64_t(sort_workspace(samples, grid.keys())));
  total = at;
}

void sort_samples(const ListLayout& layout, void* workspace, cudaStream_t stream) {
  auto words = [&](int64_t place) { return layout.at<uint32_t>(workspace, place); };
  const int64_t keys = layout.grid.keys();
  size_t bytes = sort_workspace(layout.samples, keys);
  check(cub::DeviceRadixSort::SortPairs(layout.at<char>(workspace, layout.sort), bytes,
                                        words(layout.keys_in), words(layout.keys_out),
                                        words(layout.ids_in), words(layout.ids_out), layout.samples,
                                        0, bits_for(keys), stream),
        "sample sort");
  start_kernel<<<blocks_for(layout.samples + 1, 256), 256, 0, stream>>>(
      words(layout.keys_out), layout.samples, uint32_t(keys), words(layout.start),
      words(layout.count));
  pieces_kernel<<<blocks_for(keys, 256), 256, 0, stream>>>(
      layout.grid, words(layout.start), words(layout.count),
      layout.at<Piece>(workspace, layout.pieces));
  check(cudaGetLastError(), "sample list starts");
}

int64_t images_a_run(const ConvGeometry& g) {
  const int64_t samples = image_samples(g), keys = cells(g, 1, Taps::kApart).keys();
  if (samples > kMostKeys || keys > kMostKeys) {
    throw std::runtime_error("dcnv2: an image of " + std::to_string(samples) +
                             " samples is too large for the gradient of input (at most 2^31 - 1)");
  }
  const int64_t fit = std::min(kRunSamples / std::max<int64_t>(samples, 1), kMostKeys / keys);
  const int64_t batch = std::max<int64_t>(g.batch, 1);
  const int64_t runs = ceil_div(batch, std::clamp<int64_t>(fit, 1, batch));
  return ceil_div(batch, runs);
}

ListLayout sample_lists_layout(const ConvGeometry& g, int64_t images, Taps taps, size_t acc_size) {
  return ListLayout(cells(g, images, taps), images * image_samples(g), acc_size);
}

template <class Acc>
SampleLists<Acc> build_sample_lists(const ConvArgs& a, int64_t first_image, int64_t images, Taps taps,
                                    void* workspace, cudaStream_t stream) {
  const ListLayout layout = sample_lists_layout(a.g, images, taps, sizeof(Acc));
  const unsigned blocks = blocks_for(layout.samples, 256);
  keys_kernel<Acc><<<blocks, 256, 0, stream>>>(a, first_image, layout.grid, taps,
                                               layout.at<uint32_t>(workspace, layout.keys_in),
                                               layout.at<uint32_t>(workspace, layout.ids_in));
  check(cudaGetLastError(), "sample keys");
  sort_samples(layout, workspace, stream);
  weights_kernel<Acc><<<blocks, 256, 0, stream>>>(a, first_image, images, taps,
                                                  layout.at<uint32_t>(workspace, layout.ids_out),
                                                  layout.at<Acc>(workspace, layout.weights));
  check(cudaGetLastError(), "sample weights");
  return layout.lists<Acc>(workspace);
}

template SampleLists<float> build_sample_lists<float>(const ConvArgs&, int64_t, int64_t, Taps, void*,
                                                      cudaStream_t);
template SampleLists<double> build_sample_lists<double>(const ConvArgs&, int64_t, int64_t, Taps,
                                                        void*, cudaStream_t);

}  // namespace dcnv2::cuda
