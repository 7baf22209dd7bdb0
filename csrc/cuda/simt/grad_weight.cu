// SPDX-License-Identifier: BSD-3-Clause
// grad_weight[o, c, tap] = sum over output pixels of grad_output[p, o] * sample(p, tap, c), and
// grad_bias[o] = sum over output pixels of grad_output[p, o]. The pixels are cut into runs whose
// number depends on the shape alone; the runs' sums are added in order.
#include "cuda/common/vec16.cuh"
#include "cuda/common/common.cuh"
#include "cuda/simt/sampled_value.cuh"
#include "cuda/common/store_weight.cuh"
#include "cuda/simt/tile_product.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int64_t kBlocksWanted = 512;   // about four a multiprocessor
constexpr int64_t kPixelsARun = 1024;    // a shorter run is not worth its partial sums
constexpr int kBiasLanes = 8, kBiasRows = 32;  // threads of a block

int64_t tiles(const ConvGeometry& g) {
  return ceil_div(g.taps() * g.group_in(), kTile) * ceil_div(g.group_out(), kTile) * g.groups;
}

int64_t runs_for(int64_t pixels, int64_t blocks_a_run) {
  const int64_t most = std::max<int64_t>(pixels / kPixelsARun, 1);
  return std::clamp<int64_t>(kBlocksWanted / std::max<int64_t>(blocks_a_run, 1), 1, most);
}

int64_t weight_runs(const ConvArgs& a) { return runs_for(a.g.out_pixels(), tiles(a.g)); }

// Channels that a thread adds up: those of 16 bytes where grad_output allows it.
int bias_channels(const ConvArgs& a) {
  const int count = kChunkBytes / int(element_size(a.dtype));
  const bool aligned = reinterpret_cast<uintptr_t>(a.grad_output) % kChunkBytes == 0;
  return aligned && a.g.out_channels % count == 0 ? count : 1;
}
int64_t bias_runs(const ConvArgs& a) {
  return runs_for(a.g.out_pixels(), ceil_div(a.g.out_channels, kBiasLanes * bias_channels(a)));
}

size_t accumulator_size(Dtype dtype) { return dtype == Dtype::kFloat64 ? 8 : 4; }

}  // namespace

// Grid: tiles of (tap, channel), tiles of a group's output channels, runs x groups.
// partial: [runs, groups, taps * group_in, group_out]
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    grad_weight_kernel(ConvArgs a, int64_t runs, accumulator_t<T>* partial) {
  using Acc = accumulator_t<T>;
  const ConvGeometry& g = a.g;
  const int64_t channels = g.group_in(), outputs = g.group_out();
  const int64_t group = blockIdx.z % g.groups, run = blockIdx.z / g.groups;
  const int64_t row0 = int64_t(blockIdx.x) * kTile, col0 = int64_t(blockIdx.y) * kTile;
  const int64_t first = g.out_pixels() * run / runs, last = g.out_pixels() * (run + 1) / runs;
  const T* grad = static_cast<const T*>(a.grad_output);

  Acc sum[kPerThread][kPerThread] = {};
  const ProductSize size{g.taps() * channels, outputs, last - first};
  tile_product<false, false>(
      size, row0, col0,
      [&](int64_t row, int64_t p) {
        return sampled_value<T>(a, out_pixel(g, first + p), row / channels,
                                group * channels + row % channels);
      },
      [&](int64_t p, int64_t o) {
        return widen(grad[(first + p) * g.out_channels + group * outputs + o]);
      },
      sum);

  partial += (run * g.groups + group) * size.rows * outputs;
  for (int i = 0; i < kPerThread; ++i) {
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t row = row0 + threadIdx.x / 16 * kPerThread + i;
      const int64_t o = col0 + threadIdx.x % 16 * kPerThread + j;
      if (row < size.rows && o < outputs) partial[row * outputs + o] = sum[i][j];
    }
  }
}

// Those of all runs, which stand one behind the other.
template <class Acc>
struct RunSums {
  const Acc* partial;
  int64_t runs, groups, rows, outputs;

  __device__ Acc operator()(int group, int row, int o) const {
    Acc sum = 0;
#pragma unroll 4
    for (int64_t run = 0; run < runs; ++run) {
      sum += partial[((run * groups + group) * rows + row) * outputs + o];
    }
    return sum;
  }
};

// Neighbouring channels that a thread loads at once.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Channels {
  T value[kCount];
};

// Grid: blocks of kBiasLanes times kCount channels, runs. partial: [runs, out_channels]
template <class T, int kCount>
__global__ void grad_bias_kernel(ConvArgs a, int64_t runs, accumulator_t<T>* partial) {
  using Acc = accumulator_t<T>;
  __shared__ Acc sums[kBiasRows][kBiasLanes][kCount];
  const ConvGeometry& g = a.g;
  const int64_t channel = (int64_t(blockIdx.x) * kBiasLanes + threadIdx.x) * kCount, run = blockIdx.y;
  const int64_t first = g.out_pixels() * run / runs, last = g.out_pixels() * (run + 1) / runs;
  const T* grad = static_cast<const T*>(a.grad_output) + channel;
  Acc sum[kCount] = {};
  if (channel < g.out_channels) {
#pragma unroll 4
    for (int64_t p = first + threadIdx.y; p < last; p += kBiasRows) {
      const auto some = *reinterpret_cast<const Channels<T, kCount>*>(grad + p * g.out_channels);
      for (int i = 0; i < kCount; ++i) sum[i] += widen(some.value[i]);
    }
  }
  for (int i = 0; i < kCount; ++i) sums[threadIdx.y][threadIdx.x][i] = sum[i];
  __syncthreads();
  if (threadIdx.y != 0 || channel >= g.out_channels) return;
  // The few sums of many terms, here and of the runs, cost nothing in float64 and would lose most in float32
  for (int i = 0; i < kCount; ++i) {
    double total = sum[i];
    for (int row = 1; row < kBiasRows; ++row) total += sums[row][threadIdx.x][i];
    partial[run * g.out_channels + channel + i] = Acc(total);
  }
}

template <class T>
__global__ void add_bias_runs_kernel(ConvArgs a, int64_t runs, const accumulator_t<T>* partial) {
  const int64_t channels = a.g.out_channels;
  const int64_t channel = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (channel >= channels) return;
  double sum = 0;
#pragma unroll 16
  for (int64_t run = 0; run < runs; ++run) sum += partial[run * channels + channel];
  static_cast<T*>(a.grad_bias)[channel] = narrow<T>(accumulator_t<T>(sum));
}

size_t grad_weight_workspace(const ConvArgs& a) {
  return weight_runs(a) * a.g.taps() * a.g.group_in() * a.g.out_channels * accumulator_size(a.dtype);
}

void launch_grad_weight(const ConvArgs& a, void* workspace, cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const int64_t runs = weight_runs(a);
  const dim3 grid(ceil_div(g.taps() * g.group_in(), kTile), ceil_div(g.group_out(), kTile),
                  runs * g.groups);
  dispatch(a.dtype, [&](auto element) {
    using T = decltype(element);
    auto* partial = static_cast<accumulator_t<T>*>(workspace);
    grad_weight_kernel<T><<<grid, kTileThreads, 0, stream>>>(a, runs, partial);
    check(cudaGetLastError(), "grad_weight");
    launch_store_weight<T>(
        a, RunSums<accumulator_t<T>>{partial, runs, g.groups, g.taps() * g.group_in(), g.group_out()},
        stream);
  });
}

size_t grad_bias_workspace(const ConvArgs& a) {
  return bias_runs(a) * a.g.out_channels * accumulator_size(a.dtype);
}

void launch_grad_bias(const ConvArgs& a, void* workspace, cudaStream_t stream) {
  const int64_t runs = bias_runs(a), channels = a.g.out_channels;
  const int count = bias_channels(a);
  const dim3 grid(ceil_div(channels, kBiasLanes * count), runs), block(kBiasLanes, kBiasRows);
  dispatch(a.dtype, [&](auto element) {
    using T = decltype(element);
    auto* partial = static_cast<accumulator_t<T>*>(workspace);
    auto* kernel = count == 1 ? grad_bias_kernel<T, 1> : grad_bias_kernel<T, kVector<T>>;
    kernel<<<grid, block, 0, stream>>>(a, runs, partial);
    add_bias_runs_kernel<T><<<ceil_div(channels, 256), 256, 0, stream>>>(a, runs, partial);
  });
  check(cudaGetLastError(), "grad_bias");
}

}  // namespace dcnv2::cuda
