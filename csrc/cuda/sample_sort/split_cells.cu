// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/sample_sort/split_cells.cuh"

#include "cuda/common/vec16.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kLaneChunks = 8;                  // of a warp
constexpr int kSharers = 32 / kLaneChunks;      // lanes that share a part's samples
constexpr uint32_t kAll = 0xffffffffu;

// One warp a part and kLaneChunks chunks.
template <class T>
__global__ void __launch_bounds__(kThreads)
    crowds_kernel(SampleLists<float> lists, Crowds crowds, const char* grad_output, float* partial) {
  if (*lists.crowded == 0) return;
  const int64_t chunks = crowds.channels / kVector<T>, groups = ceil_div(chunks, kLaneChunks);
  const int64_t warp = (blockIdx.x * int64_t(kThreads) + threadIdx.x) / 32, number = warp / groups;
  const CrowdPart part(number, crowds.stretch, lists.samples, [&](uint32_t member) -> SampleRange {
    const uint32_t key = lists.keys[member];
    if (key == lists.grid.keys()) return {0, 0};
    return lists.list(key);
  });
  if (part.begin == part.end) return;
  const int lane = threadIdx.x % 32;
  const int64_t chunk = warp % groups * kLaneChunks + lane % kLaneChunks;
  const char* base = grad_output + min(chunk, chunks - 1) * kChunkBytes;
  float sum[4][kVector<T>] = {};
#pragma unroll 4
  for (uint32_t i = part.begin + lane / kLaneChunks; i < part.end; i += kSharers) {
    const uint4 value = load_chunk(base + int64_t(lists.row[i]) * chunks * kChunkBytes);
    const float4 weight = __ldg(reinterpret_cast<const float4*>(lists.weights) + i);
    add_chunk(value, weight.x, sum[0], T{});
    add_chunk(value, weight.y, sum[1], T{});
    add_chunk(value, weight.z, sum[2], T{});
    add_chunk(value, weight.w, sum[3], T{});
  }
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    float* to = partial + (number * 4 + corner) * crowds.channels + chunk * kVector<T>;
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) {
      float total = sum[corner][i];
      for (int step = kLaneChunks; step < 32; step *= 2) total += __shfl_xor_sync(kAll, total, step);
      if (lane == int(chunk % kLaneChunks) && chunk < chunks) to[i] = total;
    }
  }
}

}  // namespace

// A stretch of 8 samples a channel leaves the sums room in 8 bytes a sample.
Crowds::Crowds(const SampleLists<float>& lists, int64_t channels)
    : stretch(uint32_t(std::max<int64_t>(kCrowd, 8 * channels))),
      channels(channels),
      partial(static_cast<const float*>(lists.spare)) {}

Crowds sum_crowds(const SampleLists<float>& lists, Dtype dtype, const char* grad_output,
                  int64_t channels, cudaStream_t stream) {
  const Crowds crowds(lists, channels);
  if (lists.samples <= crowds.stretch) return crowds;  // no cell has more
  dispatch_chunks(dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t groups = ceil_div(channels / kVector<T>, kLaneChunks);
    const int64_t warps = most_crowd_parts(lists.samples, crowds.stretch) * groups;
    crowds_kernel<T><<<unsigned(ceil_div(warps * 32, kThreads)), kThreads, 0, stream>>>(
        lists, crowds, grad_output, static_cast<float*>(lists.spare));
  });
  check(cudaGetLastError(), "crowds of samples");
  return crowds;
}

}  // namespace dcnv2::cuda
