// SPDX-License-Identifier: BSD-3-Clause
// grad_weight[o, c, tap] = sum over output pixels of grad_output[p, o] * sample(p, tap, c), and
// grad_bias[o] = sum over output pixels of grad_output[p, o]. Split-K over the pixels: the number
// of splits depends on the shape only, and their sums are added in order, so results are
// deterministic.
#include "cuda/common/vec16.cuh"
#include "cuda/common/common.cuh"
#include "cuda/simt/sampled_value.cuh"
#include "cuda/common/store_weight.cuh"
#include "cuda/simt/tile_product.cuh"

namespace dcnv2::cuda {

namespace {

// ---- Splits

constexpr int64_t kTargetBlocks = 512;  // about four for each multiprocessor
constexpr int64_t kWeightPixels = 1024;  // a shorter split is not worth its partial sums
constexpr int kBiasLanes = 8, kBiasRows = 32;  // threads of a block
constexpr int kBiasTogether = 8;               // loads in flight
constexpr int64_t kBiasPixels = kBiasRows * kBiasTogether;
constexpr int kSumLanes = 32, kSumRows = 8;  // threads that add up the splits of the bias

int64_t tiles(const ConvGeometry& g) {
  return ceil_div(g.taps() * g.group_in(), kTile) * ceil_div(g.group_out(), kTile) * g.groups;
}

int64_t splits_for(int64_t pixels, int64_t pixels_per_split, int64_t blocks_per_split) {
  const int64_t most = std::max<int64_t>(pixels / pixels_per_split, 1);
  return std::clamp<int64_t>(kTargetBlocks / std::max<int64_t>(blocks_per_split, 1), 1, most);
}

int64_t weight_splits(const ConvArgs& a) {
  return splits_for(a.g.out_pixels(), kWeightPixels, tiles(a.g));
}

// Channels that a thread sums up: 16 bytes if the alignment of grad_output allows it.
int bias_channels(const ConvArgs& a) {
  const int count = kVec16Bytes / int(element_size(a.dtype));
  const bool aligned = reinterpret_cast<uintptr_t>(a.grad_output) % kVec16Bytes == 0;
  return aligned && a.g.out_channels % count == 0 ? count : 1;
}
int64_t bias_splits(const ConvArgs& a) {
  return splits_for(a.g.out_pixels(), kBiasPixels,
                    ceil_div(a.g.out_channels, kBiasLanes * bias_channels(a)));
}

size_t accumulator_size(Dtype dtype) { return dtype == Dtype::kFloat64 ? 8 : 4; }

}  // namespace

// ---- Kernel of the weight

// Grid: tiles of (tap, channel), tiles of a group's output channels, splits x groups.
// partial: [splits, groups, taps * group_in, group_out]
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    grad_weight_kernel(ConvArgs a, int64_t splits, accumulator_t<T>* partial) {
  using Acc = accumulator_t<T>;
  const ConvGeometry& g = a.g;
  const int64_t channels = g.group_in(), outputs = g.group_out();
  const int64_t group = blockIdx.z % g.groups, split = blockIdx.z / g.groups;
  const int64_t row0 = int64_t(blockIdx.x) * kTile, col0 = int64_t(blockIdx.y) * kTile;
  const int64_t first = g.out_pixels() * split / splits,
                last = g.out_pixels() * (split + 1) / splits;
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

  partial += (split * g.groups + group) * size.rows * outputs;
  for (int i = 0; i < kPerThread; ++i) {
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t row = row0 + threadIdx.x / 16 * kPerThread + i;
      const int64_t o = col0 + threadIdx.x % 16 * kPerThread + j;
      if (row < size.rows && o < outputs) partial[row * outputs + o] = sum[i][j];
    }
  }
}

// ---- Sum of the splits

// The partial sums of an element, by split.
template <class Acc>
struct SplitSums {
  const Acc* partial;
  int64_t splits, groups, rows, outputs;

  __device__ PartialSums<Acc> operator()(int group, int row, int o) const {
    return {.first = partial + (group * rows + row) * outputs + o,
            .step = groups * rows * outputs,
            .count = int(splits)};
  }
};

// ---- Kernels of the bias

// Consecutive channels that a thread loads at once.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Channels {
  T value[kCount];
};

// Grid: blocks of kBiasLanes times kCount channels, splits. partial: [splits, out_channels]
template <class T, int kCount>
__global__ void grad_bias_kernel(ConvArgs a, int64_t splits, accumulator_t<T>* partial) {
  using Acc = accumulator_t<T>;
  __shared__ Acc sums[kBiasRows][kBiasLanes][kCount];
  const ConvGeometry& g = a.g;
  const int64_t channel = (int64_t(blockIdx.x) * kBiasLanes + threadIdx.x) * kCount,
                split = blockIdx.y;
  const int64_t first = g.out_pixels() * split / splits,
                last = g.out_pixels() * (split + 1) / splits;
  const T* grad = static_cast<const T*>(a.grad_output) + channel;
  Acc sum[kCount] = {};
  if (channel < g.out_channels) {
#pragma unroll kBiasTogether
    for (int64_t p = first + threadIdx.y; p < last; p += kBiasRows) {
      const auto some = *reinterpret_cast<const Channels<T, kCount>*>(grad + p * g.out_channels);
      for (int i = 0; i < kCount; ++i) sum[i] += widen(some.value[i]);
    }
  }
  for (int i = 0; i < kCount; ++i) sums[threadIdx.y][threadIdx.x][i] = sum[i];
  __syncthreads();
  if (threadIdx.y != 0 || channel >= g.out_channels) return;
  // The last additions are in float64, here and over the splits: they are few, and in float32 they
  // would contribute most of the rounding error.
  for (int i = 0; i < kCount; ++i) {
    double total = sum[i];
    for (int row = 1; row < kBiasRows; ++row) total += sums[row][threadIdx.x][i];
    partial[split * g.out_channels + channel + i] = Acc(total);
  }
}

// Grid: blocks of kSumLanes channels.
template <class T>
__global__ void add_bias_splits_kernel(ConvArgs a, int64_t splits,
                                       const accumulator_t<T>* partial) {
  __shared__ double sums[kSumRows][kSumLanes];
  const int64_t channels = a.g.out_channels;
  const int64_t channel = blockIdx.x * int64_t(kSumLanes) + threadIdx.x;
  double sum = 0;
  if (channel < channels) {
#pragma unroll 16
    for (int64_t split = threadIdx.y; split < splits; split += kSumRows) {
      sum += partial[split * channels + channel];
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= channels) return;
  for (int row = 1; row < kSumRows; ++row) sum += sums[row][threadIdx.x];
  static_cast<T*>(a.grad_bias)[channel] = narrow<T>(accumulator_t<T>(sum));
}

// ---- Launch

static void launch_grad_weight(const ConvArgs& a, int64_t splits, void* workspace,
                               cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const dim3 grid(ceil_div(g.taps() * g.group_in(), kTile), ceil_div(g.group_out(), kTile),
                  splits * g.groups);
  dispatch(a.dtype, [&](auto element) {
    using T = decltype(element);
    auto* partial = static_cast<accumulator_t<T>*>(workspace);
    grad_weight_kernel<T><<<grid, kTileThreads, 0, stream>>>(a, splits, partial);
    check(cudaGetLastError(), "grad_weight");
    launch_store_weight<T>(a,
                           SplitSums<accumulator_t<T>>{.partial = partial,
                                                       .splits = splits,
                                                       .groups = g.groups,
                                                       .rows = g.taps() * g.group_in(),
                                                       .outputs = g.group_out()},
                           stream);
  });
}

PassPlan plan_grad_weight(const ConvArgs& a) {
  const int64_t splits = weight_splits(a);
  const int64_t sums = splits * a.g.taps() * a.g.group_in() * a.g.out_channels;
  return {.pass = "grad_weight",
          .workspace = sums * accumulator_size(a.dtype),
          .launch = [a, splits](const PassMemory& memory, cudaStream_t stream) {
            launch_grad_weight(a, splits, memory.workspace, stream);
          }};
}

static void launch_grad_bias(const ConvArgs& a, int64_t splits, void* workspace,
                             cudaStream_t stream) {
  const int64_t channels = a.g.out_channels;
  const int count = bias_channels(a);
  const dim3 grid(ceil_div(channels, kBiasLanes * count), splits), block(kBiasLanes, kBiasRows);
  dispatch(a.dtype, [&](auto element) {
    using T = decltype(element);
    auto* partial = static_cast<accumulator_t<T>*>(workspace);
    auto* kernel = count == 1 ? grad_bias_kernel<T, 1> : grad_bias_kernel<T, kVecSize<T>>;
    kernel<<<grid, block, 0, stream>>>(a, splits, partial);
    add_bias_splits_kernel<T>
        <<<ceil_div(channels, kSumLanes), dim3(kSumLanes, kSumRows), 0, stream>>>(a, splits,
                                                                                  partial);
  });
  check(cudaGetLastError(), "grad_bias");
}

PassPlan plan_grad_bias(const ConvArgs& a) {
  const int64_t splits = bias_splits(a);
  return {.pass = "grad_bias",
          .workspace = splits * a.g.out_channels * accumulator_size(a.dtype),
          .launch = [a, splits](const PassMemory& memory, cudaStream_t stream) {
            launch_grad_bias(a, splits, memory.workspace, stream);
          }};
}

}  // namespace dcnv2::cuda
