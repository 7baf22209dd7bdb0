// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/sample_sort/split_cells.cuh"

#include "cuda/sample_sort/cell_segments.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kLaneVecs = 8;              // vectors of channels that a warp sums up
constexpr int kSharers = 32 / kLaneVecs;  // lanes that share a segment's samples
constexpr uint32_t kAll = 0xffffffffu;

// ---- Kernel

// One warp for each segment and kLaneVecs vectors of channels.
template <class T>
__global__ void __launch_bounds__(kThreads)
    oversized_cells_kernel(SampleLists<float> lists, OversizedCells oversized,
                           const char* grad_output, float* partial) {
  if (*lists.has_oversized == 0) return;

  // The warp's segment and channels
  const int64_t vecs = oversized.channels / kVecSize<T>, groups = ceil_div(vecs, kLaneVecs);
  const int64_t warp = (blockIdx.x * int64_t(kThreads) + threadIdx.x) / 32, index = warp / groups;
  const CellSegment segment(index, oversized.segment_length, lists.samples,
                            [&](uint32_t member) -> SampleRange {
                              const uint32_t key = lists.keys[member];
                              if (key == lists.grid.keys()) return {0, 0};
                              return lists.list(key);
                            });
  if (segment.begin == segment.end) return;
  const int lane = threadIdx.x % 32;
  const int64_t vec = warp % groups * kLaneVecs + lane % kLaneVecs;

  // The samples of this lane
  const char* base = grad_output + min(vec, vecs - 1) * kVec16Bytes;
  CornerSums<T> sum = {};
#pragma unroll 4
  for (uint32_t i = segment.begin + lane / kLaneVecs; i < segment.end; i += kSharers) {
    const uint4 value = load_vec16(base + int64_t(lists.row[i]) * vecs * kVec16Bytes);
    const float4 weight = __ldg(reinterpret_cast<const float4*>(lists.weights) + i);
    add_corners<T>(value, weight, sum);
  }

  // The sums of the lanes that share the segment
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    float* to = partial + (index * 4 + corner) * oversized.channels + vec * kVecSize<T>;
#pragma unroll
    for (int i = 0; i < kVecSize<T>; ++i) {
      float total = sum[corner][i];
      for (int step = kLaneVecs; step < 32; step *= 2) {
        total += __shfl_xor_sync(kAll, total, step);
      }
      if (lane == int(vec % kLaneVecs) && vec < vecs) to[i] = total;
    }
  }
}

}  // namespace

// ---- Launch

// segment_length >= 8 * channels, so that the sums fit the spare memory, 8 bytes for each sample.
OversizedCells::OversizedCells(const SampleLists<float>& lists, int64_t channels)
    : segment_length(uint32_t(std::max<int64_t>(kOversized, 8 * channels))),
      channels(channels),
      partial(static_cast<const float*>(lists.spare)) {}

OversizedCells sum_oversized_cells(const SampleLists<float>& lists, Dtype dtype,
                                   const char* grad_output, int64_t channels, cudaStream_t stream) {
  const OversizedCells oversized(lists, channels);
  if (lists.samples <= oversized.segment_length) return oversized;  // no cell has more
  dispatch_vec16(dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t groups = ceil_div(channels / kVecSize<T>, kLaneVecs);
    const int64_t warps = max_segments(lists.samples, oversized.segment_length) * groups;
    oversized_cells_kernel<T><<<unsigned(ceil_div(warps * 32, kThreads)), kThreads, 0, stream>>>(
        lists, oversized, grad_output, static_cast<float*>(lists.spare));
  });
  check(cudaGetLastError(), "oversized cells");
  return oversized;
}

}  // namespace dcnv2::cuda
