// SPDX-License-Identifier: BSD-3-Clause
#include "pack_weight.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 256;

// One thread a chunk: 16 bytes along the depth of one column. Behind the weight come the zeros that
// samples off the map read.
template <class T>
__global__ void pack_weight_kernel(ConvArgs a, PackedWeight packed, T* to) {
  const int64_t chunks = packed.count() / kVector<T>;
  const int64_t index = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (index < a.g.in_channels) to[packed.count() + index] = T(0.0f);
  if (index >= chunks) return;
  // A warp walks the columns, which lie apart in the weight either way.
  const int chunk = index % kChunks;
  const int col = index / kChunks % packed.padded_cols;
  const int64_t rest = index / kChunks / packed.padded_cols;
  const int tap = rest % packed.taps, slab = rest / packed.taps % packed.slabs;
  const int group = rest / packed.steps();
  const T* weight = static_cast<const T*>(a.weight.data);
  const int kernel_w = static_cast<int>(a.g.kernel_w);

  T values[kVector<T>];
  for (int i = 0; i < kVector<T>; ++i) {
    const int d = slab * packed.slab + chunk * kVector<T> + i;
    const bool inside = col < packed.cols && d < packed.depth;
    const int out = packed.cols_are_out ? col : d, in = packed.cols_are_out ? d : col;
    values[i] = inside ? weight[a.weight.index(group * a.g.group_out() + out, in, tap / kernel_w,
                                               tap % kernel_w)]
                       : T(0.0f);
  }
  char* tile = reinterpret_cast<char*>(to) + packed.tile(group, slab * packed.taps + tap, 0);
  *reinterpret_cast<uint4*>(tile + chunk_offset(col, chunk)) =
      *reinterpret_cast<const uint4*>(values);
}

int slab_of(const ConvArgs& a) { return a.dtype == Dtype::kFloat32 ? kSlab<float> : kSlab<__half>; }

PackedWeight packed_weight(const ConvArgs& a, int cols, int depth, int tile_cols, bool cols_are_out) {
  const int slab = slab_of(a);
  return {int(a.g.groups),
          cols,
          depth,
          int(a.g.taps()),
          int(ceil_div(cols, tile_cols)) * tile_cols,
          slab,
          int(ceil_div(depth, slab)),
          cols_are_out};
}

}  // namespace

PackedWeight forward_weight(const ConvArgs& a, int tile_cols) {
  return packed_weight(a, int(a.g.group_out()), int(a.g.group_in()), tile_cols, true);
}

PackedWeight backward_weight(const ConvArgs& a, int tile_cols) {
  return packed_weight(a, int(a.g.group_in()), int(a.g.group_out()), tile_cols, false);
}

void launch_pack_weight(const ConvArgs& a, const PackedWeight& packed, void* to, cudaStream_t stream) {
  auto run = [&](auto element) {
    using T = decltype(element);
    const int64_t chunks = packed.count() / kVector<T>;
    const int64_t threads = std::max(chunks, a.g.in_channels);
    pack_weight_kernel<T><<<ceil_div(threads, kThreads), kThreads, 0, stream>>>(
        a, packed, static_cast<T*>(to));
  };
  switch (a.dtype) {
    case Dtype::kFloat32:
      run(float{});
      break;
    case Dtype::kFloat16:
      run(__half{});
      break;
    default:
      run(__nv_bfloat16{});
  }
  check(cudaGetLastError(), "pack weight");
}

}  // namespace dcnv2::cuda
