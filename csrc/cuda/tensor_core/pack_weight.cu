// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/tensor_core/pack_weight.cuh"

#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 256;

// One thread per 16-byte vector along the depth of one column. Neighbouring threads take the taps
// of a vector, then what is adjacent in a contiguous weight, so that a warp reads whole lines. The
// zeros after the weight are what samples off the map read.
template <class T>
__global__ void pack_weight_kernel(ConvArgs a, PackedWeight packed, T* to) {
  const uint32_t vecs = packed.count() / packed.form.splits / kVecSize<T>;
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
  if (index < a.g.in_channels) to[packed.count() + index] = T(0.0f);
  if (index == 0 && a.nonfinite != nullptr) *a.nonfinite = 0;
  if (index >= vecs) return;
  uint32_t rest = index;
  auto take = [&](uint32_t count) {
    const uint32_t at = rest % count;
    rest /= count;
    return int(at);
  };
  const int tap = take(packed.taps);
  const int within = take(packed.cols_are_out ? kRowVecs * packed.k_tiles : packed.padded_cols);
  const int across = take(packed.cols_are_out ? packed.padded_cols : kRowVecs * packed.k_tiles);
  const int group = int(rest);
  const int vec = packed.cols_are_out ? within : across;  // of the depth
  const int col = packed.cols_are_out ? across : within;
  const int depth = vec * kVecSize<T>;

  T values[kVecSize<T>] = {};
  if (col < packed.cols && depth < packed.depth) {
    const int out = packed.cols_are_out ? col : depth, in = packed.cols_are_out ? depth : col;
    const int kernel_w = int(a.g.kernel_w), row = tap / kernel_w, column = tap % kernel_w;
    const T* weight = static_cast<const T*>(a.weight.data);
    const int64_t first_out = group * a.g.group_out();
    if (a.merged_groups == 1) {
      const T* from = weight + a.weight.index(first_out + out, in, row, column);
      const int64_t step = packed.cols_are_out ? a.weight.stride_c : a.weight.stride_n;
#pragma unroll
      for (int i = 0; i < kVecSize<T>; ++i) values[i] = from[i * step];
    } else {
      const MergedBlocks<true> blocks(a);
      for (int i = 0; i < kVecSize<T>; ++i) {
        const int o = out + (packed.cols_are_out ? 0 : i), c = in + (packed.cols_are_out ? i : 0);
        if (!blocks.on_diagonal(o, c)) continue;
        values[i] = weight[a.weight.index(first_out + o, c % blocks.in, row, column)];
      }
    }
  }
  const int tile_col = col % packed.tile_cols;
  char* at = reinterpret_cast<char*>(to) +
             packed.tile(group, vec / kRowVecs * packed.taps + tap, col - tile_col) +
             swizzled_offset(column_place<T>(tile_col), vec % kRowVecs);
  if constexpr (std::is_same_v<T, float>) {
    if (packed.form.rounded) {
      uint4 high, low;
      if (packed.form.splits == 1) {
        split_tf32<1>(values, high, low);
      } else {
        split_tf32<2>(values, high, low);
        *reinterpret_cast<uint4*>(at + packed.tile_cols * kRowBytes) = low;
      }
      *reinterpret_cast<uint4*>(at) = high;
      return;
    }
  }
  *reinterpret_cast<uint4*>(at) = *reinterpret_cast<const uint4*>(values);
}

int k_tile_size_of(const ConvArgs& a) {
  return a.dtype == Dtype::kFloat32 ? kRowElements<float> : kRowElements<__half>;
}

PackedWeight packed_weight(const ConvArgs& a, int cols, int depth, int tile_cols, bool cols_are_out,
                           OperandForm form) {
  const int k_tile_size = k_tile_size_of(a);
  return {.groups = int(a.g.groups),
          .cols = cols,
          .depth = depth,
          .taps = int(a.g.taps()),
          .tile_cols = tile_cols,
          .padded_cols = int(ceil_div(cols, tile_cols)) * tile_cols,
          .k_tile_size = k_tile_size,
          .k_tiles = int(ceil_div(depth, k_tile_size)),
          .cols_are_out = cols_are_out,
          .form = form};
}

void launch_pack_weight(const ConvArgs& a, const PackedWeight& packed, void* to,
                        cudaStream_t stream) {
  dispatch_vec16(a.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t vecs = packed.count() / packed.form.splits / kVecSize<T>;
    const int64_t threads = std::max(vecs, a.g.in_channels);
    pack_weight_kernel<T>
        <<<ceil_div(threads, kThreads), kThreads, 0, stream>>>(a, packed, static_cast<T*>(to));
  });
  check(cudaGetLastError(), "pack weight");
}

}  // namespace

PackedWeight forward_weight(const ConvArgs& a, int tile_cols, OperandForm form) {
  return packed_weight(a, int(a.g.group_out()), int(a.g.group_in()), tile_cols, true, form);
}

PackedWeight backward_weight(const ConvArgs& a, int tile_cols, OperandForm form) {
  return packed_weight(a, int(a.g.group_in()), int(a.g.group_out()), tile_cols, false, form);
}

WeightPlan plan_weight(const ConvArgs& a, const PackedWeight& packed) {
  return {.layout = packed,
          .bytes = packed_weight_bytes(a, packed),
          .pack = [a, packed](void* to, cudaStream_t stream) {
            launch_pack_weight(with_flag(a, packed, to), packed, to, stream);
          }};
}

}  // namespace dcnv2::cuda
