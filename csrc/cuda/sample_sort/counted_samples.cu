// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/sample_sort/counted_samples.cuh"

#include "cuda/common/common.cuh"
#include "cuda/sample_sort/cub_workspace.cuh"

#include <cub/device/device_scan.cuh>

#include <utility>

namespace dcnv2::cuda {

namespace {

// ---- Scan

void scan(void* workspace, size_t& bytes, uint32_t* counts, int64_t keys, cudaStream_t stream) {
  check(cub::DeviceScan::ExclusiveSum(workspace, bytes, counts, counts, uint32_t(keys + 1), stream),
        "scan of the counts");
}

size_t scan_workspace(int64_t keys) {
  return cub_workspace(keys, 0,
                       [&](size_t& bytes) { scan(nullptr, bytes, nullptr, keys, nullptr); });
}

// ---- Kernel of all keys

__global__ void __launch_bounds__(256) arrivals_kernel(CountedSamples counted, uint32_t samples) {
  const uint32_t id = blockIdx.x * 256 + threadIdx.x;
  if (id >= samples) return;
  const uint32_t key = counted.keys[id];
  if (key != kNoKey) counted.arrived[counted.row_offsets[key] + counted.ids[id]] = id;
}

// ---- Kernel of dense keys

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int kBlocks = 256;  // they share the dense keys
constexpr uint32_t kWords = 1 << 11;  // of a bitmap in shared memory
constexpr uint32_t kWindow = 32 * kWords;  // ids of a bitmap

// The sum of `count` over the threads before this one, and over all threads.
__device__ __forceinline__ uint32_t sum_before(uint32_t count, uint32_t (&warp_sums)[kWarps],
                                               uint32_t& total) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t sum = count;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  __syncthreads();  // every thread has read the previous sums
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  total = 0;
  uint32_t before = sum - count;
  for (uint32_t w = 0; w < kWarps; ++w) {
    if (w < warp) before += warp_sums[w];
    total += warp_sums[w];
  }
  return before;
}

// One block for a key at a time. For each window of ids it reads the key's samples once, and
// afterwards the words of the bitmap.
__global__ void __launch_bounds__(kThreads)
    dense_keys_kernel(CountedSamples counted, uint32_t id_range) {
  __shared__ uint32_t bitmap[kWords], warp_sums[kWarps];
  const uint32_t dense_keys = *counted.dense_keys;
  for (uint32_t index = blockIdx.x; index < dense_keys; index += gridDim.x) {
    const uint32_t key = counted.dense[index];
    const SampleRange range{counted.row_offsets[key], counted.row_offsets[key + 1]};
    const uint32_t first_id = counted.arrived[range.begin] / id_range * id_range;
    uint32_t* to = counted.ids + range.begin;
    for (uint32_t window = 0; window < id_range; window += kWindow) {
      const uint32_t words = (min(kWindow, id_range - window) + 31) / 32;
      __syncthreads();  // every thread has read the previous bitmap
      for (uint32_t word = threadIdx.x; word < words; word += kThreads) bitmap[word] = 0;
      __syncthreads();
      for (uint32_t i = range.begin + threadIdx.x; i < range.end; i += kThreads) {
        const uint32_t bit = counted.arrived[i] - first_id - window;
        if (bit < kWindow) atomicOr(bitmap + bit / 32, 1u << bit % 32);
      }
      __syncthreads();
      for (uint32_t begin = 0; begin < words; begin += kThreads) {
        const uint32_t word = begin + threadIdx.x;
        uint32_t bits = word < words ? bitmap[word] : 0, total;
        uint32_t at = sum_before(__popc(bits), warp_sums, total);
        for (; bits != 0; bits &= bits - 1) {
          to[at++] = first_id + window + word * 32 + uint32_t(__ffs(int(bits)) - 1);
        }
        to += total;
      }
    }
  }
}

}  // namespace

// ---- Launch

CountLayout::CountLayout(int64_t keys, int64_t samples) : keys(keys), samples(samples) {
  int64_t at = 0;
  auto take = [&](int64_t bytes) { return std::exchange(at, at + align_256(bytes)); };
  ids = take(samples * 4);
  keys_out = take(samples * 4);
  row_offsets = take((keys + 1) * 4);
  dense_keys = take(4);
  scratch = at;
  keys_in = take(samples * 4);
  arrived = take(samples * 4);
  scan = take(int64_t(scan_workspace(keys)));
  total = at;
}

CountedSamples::CountedSamples(const CountLayout& layout, void* workspace) {
  auto words = [&](int64_t place) {
    return reinterpret_cast<uint32_t*>(static_cast<char*>(workspace) + place);
  };
  keys = words(layout.keys_in);
  arrived = words(layout.arrived);
  ids = words(layout.ids);
  dense = words(layout.keys_out);  // which is written afterwards
  dense_keys = words(layout.dense_keys);
  row_offsets = words(layout.row_offsets);
}

void clear_counts(const CountLayout& layout, void* workspace, cudaStream_t stream) {
  const int64_t bytes = layout.dense_keys + 4 - layout.row_offsets;
  check(cudaMemsetAsync(static_cast<char*>(workspace) + layout.row_offsets, 0, bytes, stream),
        "counts");
}

void place_samples(const CountLayout& layout, uint32_t id_range, void* workspace,
                   cudaStream_t stream) {
  const CountedSamples counted(layout, workspace);
  size_t bytes = scan_workspace(layout.keys);
  scan(static_cast<char*>(workspace) + layout.scan, bytes, counted.row_offsets, layout.keys,
       stream);
  arrivals_kernel<<<unsigned(ceil_div(layout.samples, 256)), 256, 0, stream>>>(
      counted, uint32_t(layout.samples));
  check(cudaGetLastError(), "samples by key");
  const int64_t most_dense = layout.samples / (kDense + 1);
  if (most_dense == 0) return;
  dense_keys_kernel<<<unsigned(std::min<int64_t>(most_dense, kBlocks)), kThreads, 0, stream>>>(
      counted, id_range);
  check(cudaGetLastError(), "dense keys");
}

}  // namespace dcnv2::cuda
