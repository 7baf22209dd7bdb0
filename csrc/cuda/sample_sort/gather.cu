// SPDX-License-Identifier: BSD-3-Clause
// A thread owns a cell and a vector of channels. It reads each sample of the cell once and sums it
// up for the four corners. It passes the sums of the right corners to the neighbouring thread and
// keeps those of the lower corners for the next line, since it moves down the image.
#include "cuda/sample_sort/gather.cuh"

#include "cuda/sample_sort/cell_segments.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Samples of a cell

constexpr int kThreads = 256;
constexpr int kLines = 4;  // lines of pixels of a warp; few, so that concurrent warps are close
constexpr int kMaxLanes = 4;  // lanes of a cell, each with a vector of channels
constexpr uint32_t kTogether = 4;  // loads in flight

template <class T>
struct Gather {
  const GatherArgs& a;
  int64_t list_vecs;  // of a list's channels

  __device__ explicit Gather(const GatherArgs& a)
      : a(a), list_vecs(a.channels / a.lists.grid.lists / kVecSize<T>) {}

  // Adds the samples [from, to) of a list at a vector of its channels.
  __device__ __forceinline__ void add(uint32_t from, uint32_t to, uint32_t list, int64_t vec,
                                      CornerSums<T>& sum) const {
    if (from >= to) return;
    const uint32_t first_id = list * a.lists.list_samples;
    const char* rows = a.rows.data + list * a.rows.list_bytes + vec * kVec16Bytes;
    const char* weights = a.weights.data + list * a.weights.list_bytes;
    uint32_t next[kTogether];
    auto prefetch = [&](uint32_t begin) {  // clamped at the last sample, to avoid a branch
#pragma unroll
      for (uint32_t i = 0; i < kTogether; ++i)
        next[i] = __ldg(a.lists.ids + min(begin + i, to - 1));
    };
    prefetch(from);
    for (uint32_t begin = from; begin < to; begin += kTogether) {
      uint4 value[kTogether];
      float4 weight[kTogether];
      uint32_t sample[kTogether], row[kTogether];
#pragma unroll
      for (uint32_t i = 0; i < kTogether; ++i) row[i] = sample[i] = next[i] - first_id;
      prefetch(begin + kTogether);
      if (a.row_samples != 1) {
#pragma unroll
        for (uint32_t i = 0; i < kTogether; ++i) row[i] /= a.row_samples;
      }
#pragma unroll
      for (uint32_t i = 0; i < kTogether; ++i) {
        value[i] = {};
        weight[i] = {};
        if (begin + i < to) {
          weight[i] = load_weights(weights + uint64_t(sample[i]) * a.weights.row_bytes);
          value[i] = load_vec16(rows + uint64_t(row[i]) * a.rows.row_bytes);
        }
      }
#pragma unroll
      for (uint32_t i = 0; i < kTogether; ++i) add_corners<T>(value[i], weight[i], sum);
    }
  }
  static __device__ float4 load_weights(const char* at) {
    return __ldg(reinterpret_cast<const float4*>(at));
  }

  __device__ float* sums(int64_t segment, int64_t vec) const {
    return a.partial + (segment * list_vecs + vec) * 4 * kVecSize<T>;
  }
  // vec: of the list's channels.
  __device__ void add_segments(uint32_t from, uint32_t to, int64_t vec, CornerSums<T>& sum) const {
    for (uint32_t at = from; at < to; at = next_segment(at, kOversized)) {
      const auto* of = reinterpret_cast<const float4*>(sums(segment_index(at, kOversized), vec));
#pragma unroll
      for (int i = 0; i < kVecSize<T>; ++i) {  // the corners of a channel
        const float4 v = of[i];
        sum[0][i] += v.x;
        sum[1][i] += v.y;
        sum[2][i] += v.z;
        sum[3][i] += v.w;
      }
    }
  }
};

// ---- Kernel of oversized cells

// One thread for each segment and vector of channels.
template <class T>
__global__ void __launch_bounds__(kThreads) segments_kernel(GatherArgs a) {
  const CellLists& lists = a.lists;
  const Gather<T> gather(a);
  const int64_t index = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  const int64_t vec = index % gather.list_vecs, segment_number = index / gather.list_vecs;
  const CellSegment segment(
      segment_number, kOversized, lists.samples, [&](uint32_t member) -> SampleRange {
        const uint32_t cell = lists.keys[member] - lists.first_cell;
        if (cell >= lists.grid.cells()) return {0, 0};  // of another grid, or of none
        const int64_t image = cell / uint32_t((lists.grid.height + 1) * (lists.grid.width + 1));
        if (image < a.first || image >= a.first + a.images) return {0, 0};
        return lists.range(cell, lists.ids[member] / lists.list_samples);
      });
  if (segment.begin == segment.end) return;
  CornerSums<T> sum = {};
  gather.add(segment.begin, segment.end, lists.ids[segment.member] / lists.list_samples, vec, sum);
  auto* to = reinterpret_cast<float4*>(gather.sums(segment_number, vec));
#pragma unroll
  for (int i = 0; i < kVecSize<T>; ++i) to[i] = {sum[0][i], sum[1][i], sum[2][i], sum[3][i]};
}

// ---- Kernel

// The share of a warp: kLines lines of the pixels between its cells, at a few vectors of a list.
struct Strip {
  int lanes, cells;  // lanes of a cell, cells of a line
  int64_t across, down, vec_groups;

  __host__ __device__ Strip(const CellGrid& grid, int64_t list_vecs)
      : lanes(int(gcd(list_vecs, kMaxLanes))),
        cells(32 / lanes),
        across(ceil_div(grid.width, cells - 1)),
        down(ceil_div(grid.height, kLines)),
        vec_groups(grid.lists * list_vecs / lanes) {}
  __host__ __device__ int64_t an_image() const { return across * down * vec_groups; }
};

template <class T>
__global__ void __launch_bounds__(kThreads) gather_kernel(GatherArgs a) {
  const CellGrid& grid = a.lists.grid;
  const Gather<T> gather(a);
  const Strip strip(grid, gather.list_vecs);
  const int64_t warp = (blockIdx.x * int64_t(kThreads) + threadIdx.x) / 32;
  if (warp >= a.images * strip.an_image()) return;
  const int lane = threadIdx.x % 32, height = int(grid.height), width = int(grid.width);
  // Consecutive warps have the same pixels and consecutive lists, which are neighbours in memory
  const int64_t vec = warp % strip.vec_groups * strip.lanes + lane % strip.lanes;
  const int64_t place = warp / strip.vec_groups, line = place / strip.across;
  const int64_t image = a.first + line / strip.down;
  const uint32_t list = uint32_t(vec / gather.list_vecs);
  const int64_t list_vec = vec % gather.list_vecs;
  const int first_y = int(line % strip.down) * kLines, end_y = min(first_y + kLines, height);
  // The upper left pixel of the cell; that of a strip's first cell belongs to another strip
  const int x = int(place % strip.across) * (strip.cells - 1) + lane / strip.lanes - 1;
  const bool stores = lane >= strip.lanes && x < width;
  const int64_t step = (grid.width + 1) * grid.lists;
  const uint32_t* row_offsets =
      a.lists.row_offsets + grid.cell(image, first_y - 1, min(x, width - 1), 0) * grid.lists + list;
  T* to = static_cast<T*>(a.result) +
          ((image * grid.height + first_y) * grid.width + x) * a.channels + vec * kVecSize<T>;

  float below[kVecSize<T>] = {};
  uint32_t next_begin = row_offsets[0], next_end = row_offsets[1];
  for (int y = first_y - 1; y < end_y; ++y) {
    CornerSums<T> sum = {};
    const uint32_t begin = next_begin, end = x < width ? next_end : begin;
    if (y + 1 < end_y) {
      row_offsets += step;
      next_begin = row_offsets[0];
      next_end = row_offsets[1];
    }
    if (end - begin > kOversized) {
      gather.add_segments(begin, end, list_vec, sum);
    } else {
      gather.add(begin, end, list, list_vec, sum);
    }
#pragma unroll
    for (int i = 0; i < kVecSize<T>; ++i) {
      below[i] += sum[0][i] + __shfl_up_sync(0xffffffffu, sum[1][i], strip.lanes);
    }
    if (y >= first_y) {
      if (stores) *reinterpret_cast<uint4*>(to) = make_vec16(below, T{});
      to += grid.width * a.channels;
    }
#pragma unroll
    for (int i = 0; i < kVecSize<T>; ++i) {
      below[i] = sum[2][i] + __shfl_up_sync(0xffffffffu, sum[3][i], strip.lanes);
    }
  }
}

}  // namespace

// ---- Launch

CellLists::CellLists(const SortLayout& layout, const CellGrid& grid, int64_t first_cell,
                     void* workspace)
    : grid(grid),
      first_cell(uint32_t(first_cell)),
      samples(uint32_t(layout.samples)),
      list_samples(uint32_t(layout.samples / layout.lists)),
      keys(layout.at<uint32_t>(workspace, layout.keys_out)),
      ids(layout.at<uint32_t>(workspace, layout.ids_out)),
      row_offsets(layout.at<uint32_t>(workspace, layout.row_offsets) + first_cell * layout.lists) {}

size_t gather_workspace(const SortLayout& layout, int64_t channels) {
  return max_segments(layout.samples, kOversized) * 4 * (channels / layout.lists) * sizeof(float);
}

void launch_gather(const GatherArgs& a, cudaStream_t stream) {
  const CellGrid& grid = a.lists.grid;
  dispatch_vec16(a.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t list_vecs = a.channels / kVecSize<T> / grid.lists;
    const int64_t segments = max_segments(a.lists.samples, kOversized) * list_vecs;
    segments_kernel<T><<<ceil_div(segments, kThreads), kThreads, 0, stream>>>(a);
    check(cudaGetLastError(), "oversized cells");
    const Strip strip(grid, list_vecs);
    const int64_t threads = a.images * strip.an_image() * 32;
    gather_kernel<T><<<ceil_div(threads, kThreads), kThreads, 0, stream>>>(a);
    check(cudaGetLastError(), "gather");
  });
}

}  // namespace dcnv2::cuda
