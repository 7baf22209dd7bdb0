// SPDX-License-Identifier: BSD-3-Clause
// Writes the summed splits of grad_weight in the layout of the weight.
#pragma once

#include "cuda/common/common.cuh"

namespace dcnv2::cuda {

constexpr int kSquare = 32, kSquareThreads = 8;  // sums, and threads, along one side

// The partial sums of an element.
template <class Acc>
struct PartialSums {
  const Acc* first;
  int64_t step;
  int count;
};

// Elements of a thread, whose partial sums are loaded at the same time.
constexpr int kSquareRows = kSquare / kSquareThreads;

// Transposes 32 x 32 sums through shared memory: they are read along the outputs and written along
// the channels. Grid: squares of (tap, channel) rows, squares of outputs, groups. sums(group, row,
// output) returns the partial sums of an element: `count` of them, `step` apart from `first` on.
template <class T, bool kMerged, class Sums>
__global__ void store_weight_kernel(ConvArgs a, Sums sums) {
  __shared__ accumulator_t<T> square[kSquare][kSquare + 1];
  const ConvGeometry& g = a.g;
  const int channels = int(g.group_in()), outputs = int(g.group_out()),
            rows = int(g.taps()) * channels;
  const MergedBlocks<kMerged> blocks(a);
  const int row0 = blockIdx.x * kSquare, o0 = blockIdx.y * kSquare, group = blockIdx.z;
  const int o = o0 + threadIdx.x;
  PartialSums<accumulator_t<T>> parts[kSquareRows];
  accumulator_t<T> sum[kSquareRows] = {};
  int most = 0;
#pragma unroll
  for (int i = 0; i < kSquareRows; ++i) {
    const int row = row0 + threadIdx.y + i * kSquareThreads;
    parts[i].count = 0;
    if (row < rows && o < outputs && blocks.on_diagonal(o, row % channels)) {
      parts[i] = sums(group, row, o);
      most = max(most, parts[i].count);
    }
  }
#pragma unroll 4
  for (int part = 0; part < most; ++part) {
#pragma unroll
    for (int i = 0; i < kSquareRows; ++i) {
      if (part < parts[i].count) sum[i] += parts[i].first[part * parts[i].step];
    }
  }
#pragma unroll
  for (int i = 0; i < kSquareRows; ++i) {
    square[threadIdx.y + i * kSquareThreads][threadIdx.x] = sum[i];
  }
  __syncthreads();
  const int row = row0 + threadIdx.x, tap = row / channels;
  if (row >= rows) return;
  T* to = static_cast<T*>(a.grad_weight.data) +
          a.grad_weight.index(int64_t(group) * outputs + o0,
                              (kMerged ? row % channels % blocks.in : row % channels),
                              tap / int(g.kernel_w), tap % int(g.kernel_w));
  for (int i = threadIdx.y; i < min(kSquare, outputs - o0); i += kSquareThreads) {
    if (!blocks.on_diagonal(o0 + i, row % channels)) continue;
    to[i * a.grad_weight.stride_n] = narrow<T>(square[threadIdx.x][i]);
  }
}

template <class T, class Sums>
void launch_store_weight(const ConvArgs& a, const Sums& sums, cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const dim3 grid(ceil_div(g.taps() * g.group_in(), kSquare), ceil_div(g.group_out(), kSquare),
                  g.groups);
  const dim3 threads(kSquare, kSquareThreads);
  if (a.merged_groups > 1) {
    store_weight_kernel<T, true, Sums><<<grid, threads, 0, stream>>>(a, sums);
  } else {
    store_weight_kernel<T, false, Sums><<<grid, threads, 0, stream>>>(a, sums);
  }
  check(cudaGetLastError(), "grad_weight sum");
}

}  // namespace dcnv2::cuda
