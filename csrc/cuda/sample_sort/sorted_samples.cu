// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/sample_sort/sorted_samples.cuh"

#include "cuda/common/common.cuh"
#include "cuda/sample_sort/cub_workspace.cuh"

#include <cub/device/device_radix_sort.cuh>

#include <utility>

namespace dcnv2::cuda {

namespace {

// ---- Sort

int bits_for(int64_t keys) {
  int bits = 1;
  while ((int64_t(1) << bits) <= keys) ++bits;
  return bits;
}

size_t sort_workspace(int64_t samples, int64_t cells) {
  const int bits = bits_for(cells);
  return cub_workspace(samples, bits, [&](size_t& bytes) {
    uint32_t* none = nullptr;
    check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, none, none, none, none, samples, 0, bits),
          "sort workspace");
  });
}

// ---- Kernel of the CSR row offsets

struct Sorted {
  const uint32_t *keys, *ids;
  uint32_t samples, cells;
  uint32_t lists, list_samples;  // lists of a cell, and the samples of each
  uint32_t last;                 // the last index into row_offsets

  // The index into row_offsets; `last` for a sample in no cell.
  __device__ uint32_t key(uint32_t i) const {
    const uint32_t cell = keys[i];
    if (cell == cells) return last;
    return lists == 1 ? cell : cell * lists + ids[i] / list_samples;
  }
};

// row_offsets[key] = number of samples with a smaller key, for the keys 0 .. last. Every sample
// writes the keys after its predecessor's up to its own; a warp shares the work where these are
// many.
__global__ void row_offsets_kernel(Sorted sorted, uint32_t* row_offsets) {
  constexpr uint32_t kFew = 8, kAll = 0xffffffffu;
  const uint32_t lane = threadIdx.x % 32, samples = sorted.samples;
  for (uint32_t base = blockIdx.x * 256 + threadIdx.x - lane; base <= samples;
       base += gridDim.x * 256) {
    const uint32_t i = base + lane;
    const uint32_t own = i < samples ? sorted.key(i) : sorted.last;
    uint32_t before = __shfl_up_sync(kAll, own, 1);
    if (lane == 0 && i > 0) before = sorted.key(i - 1);
    // The keys that this sample writes; the thread after the last sample writes all others
    const uint32_t first = i > 0 ? before + 1 : 0, end = i <= samples ? own + 1 : first;
    const bool many = end - first > kFew;
    if (!many) {
      for (uint32_t key = first; key < end; ++key) row_offsets[key] = i;
    }
    for (uint32_t lanes = __ballot_sync(kAll, many); lanes != 0; lanes &= lanes - 1) {
      const int from = __ffs(int(lanes)) - 1;
      const uint32_t to = __shfl_sync(kAll, end, from), of = base + uint32_t(from);
      for (uint32_t key = __shfl_sync(kAll, first, from) + lane; key < to; key += 32)
        row_offsets[key] = of;
    }
  }
}

}  // namespace

// ---- Launch

SortLayout::SortLayout(int64_t lists, int64_t cells, int64_t samples)
    : lists(lists), cells(cells), samples(samples) {
  int64_t at = 0;
  auto take = [&](int64_t bytes) { return std::exchange(at, at + align_256(bytes)); };
  keys_out = take(samples * 4);
  ids_out = take(samples * 4);
  row_offsets = take((keys() + 1) * 4);
  keys_in = take(samples * 4);
  ids_in = take(samples * 4);
  sort = take(int64_t(sort_workspace(samples, cells)));
  total = at;
}

void sort_samples(const SortLayout& layout, void* workspace, cudaStream_t stream) {
  auto words = [&](int64_t place) { return layout.at<uint32_t>(workspace, place); };
  size_t bytes = sort_workspace(layout.samples, layout.cells);
  check(cub::DeviceRadixSort::SortPairs(layout.at<char>(workspace, layout.sort), bytes,
                                        words(layout.keys_in), words(layout.keys_out),
                                        words(layout.ids_in), words(layout.ids_out), layout.samples,
                                        0, bits_for(layout.cells), stream),
        "sample sort");
  const Sorted sorted{.keys = words(layout.keys_out),
                      .ids = words(layout.ids_out),
                      .samples = uint32_t(layout.samples),
                      .cells = uint32_t(layout.cells),
                      .lists = uint32_t(layout.lists),
                      .list_samples = uint32_t(layout.samples / layout.lists),
                      .last = uint32_t(layout.keys())};
  row_offsets_kernel<<<blocks_for(layout.samples + 1, 256), 256, 0, stream>>>(
      sorted, words(layout.row_offsets));
  check(cudaGetLastError(), "sample list starts");
}

}  // namespace dcnv2::cuda
