// SPDX-License-Identifier: BSD-3-Clause
// Which tile and which mma a fused kernel uses, and how it is launched.
#pragma once

#include <type_traits>

#include "cuda/common/common.cuh"
#include "cuda/tensor_core/pack_weight.cuh"
#include "cuda/tensor_core/mma/pipeline.cuh"
#include "cuda/tensor_core/mma/wgmma.cuh"
#include "cuda/tensor_core/mma/wgmma_tf32.cuh"

namespace dcnv2::cuda {

// Shared memory in bytes that a block of the current device may have.
inline int shared_limit() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "device");
  return bytes;
}

// Chips with less shared memory than this use the narrowest tile only.
constexpr int kWideTileBytes = 144 << 10;

// Widest N tile that adds no padding; 64 if N <= 64, if rows cannot share sample addresses, or if
// shared memory is small.
inline int tile_cols(const ConvArgs& a, Path path, int64_t cols, bool share_addresses) {
  if (cols <= 64 || !share_addresses || shared_limit() < kWideTileBytes) return 64;
  if (path == Path::kMma || a.dtype == Dtype::kFloat32) return 128;
  return ceil_div(cols, 256) * 256 <= ceil_div(cols, 128) * 128 ? 256 : 128;
}

template <class T>
struct Type {
  using type = T;
};
template <int kValue>
using Int = std::integral_constant<int, kValue>;

inline bool uses_wgmma_tf32(const ConvArgs& a, Path path) {
  return a.dtype == Dtype::kFloat32 && path == Path::kWgmma;
}

// The form in which the kernels read the packed weight.
inline OperandForm operand_form(const ConvArgs& a, Path path) {
  const bool split = uses_wgmma_tf32(a, path);
  return {split && !a.allow_tf32 ? 2 : 1, split};
}

// Calls f(Type<M>) for tiles of `cols` columns; not for floats by wgmma.
template <class F>
void dispatch_product(const ConvArgs& a, Path path, int cols, F f) {
  auto by_warps = [&](auto product) {
    using Product = decltype(product);
    cols == 64 ? f(Type<MmaSync<Product, 128, 64>>{}) : f(Type<MmaSync<Product, 128, 128>>{});
  };
  auto by_warpgroups = [&](auto element) {
    using T = decltype(element);
    cols == 64    ? f(Type<Wgmma<T, 128, 64>>{})
    : cols == 128 ? f(Type<Wgmma<T, 128, 128>>{})
                  : f(Type<Wgmma<T, 64, 256>>{});
  };
  const bool warpgroups = path == Path::kWgmma;
  switch (a.dtype) {
    case Dtype::kFloat16:
      return warpgroups ? by_warpgroups(__half{}) : by_warps(HalfProduct{});
    case Dtype::kBFloat16:
      return warpgroups ? by_warpgroups(__nv_bfloat16{}) : by_warps(BFloat16Product{});
    default:
      return a.allow_tf32 ? by_warps(Tf32Product{}) : by_warps(Float32Product{});
  }
}

// Calls f(Int<kSplits>) for floats by wgmma.
template <class F>
void dispatch_splits(const ConvArgs& a, F f) {
  a.allow_tf32 ? f(Int<1>{}) : f(Int<2>{});
}

// Calls f(Type<M>) for K-major products, the forward and the gradient of the input. kRows applies
// to floats by wgmma, where tiles of 128 rows leave fewer producer threads.
template <int kRows, class F>
void dispatch_k_major_product(const ConvArgs& a, Path path, int cols, F f) {
  if (!uses_wgmma_tf32(a, path)) return dispatch_product(a, path, cols, f);
  dispatch_splits(a, [&](auto splits) {
    constexpr int kSplits = decltype(splits)::value;
    cols == 64 ? f(Type<WgmmaTf32<kRows, 64, kSplits>>{})
               : f(Type<WgmmaTf32<kRows, 128, kSplits>>{});
  });
}

// The same for the gradient of the weight, with `cols` output channels per tile.
template <class F>
void dispatch_pixel_product(const ConvArgs& a, Path path, int cols, F f) {
  if (!uses_wgmma_tf32(a, path)) return dispatch_product(a, path, cols, f);
  dispatch_splits(a, [&](auto splits) {
    constexpr int kSplits = decltype(splits)::value;
    cols == 64 ? f(Type<WgmmaTf32Rs<64, kSplits>>{}) : f(Type<WgmmaTf32Rs<128, kSplits>>{});
  });
}

template <class Args>
void launch_blocks(void (*kernel)(Args), const Args& args, dim3 blocks, int threads,
                   size_t shared_bytes, cudaStream_t stream) {
  const int bytes = static_cast<int>(shared_bytes);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "shared memory");
  kernel<<<blocks, threads, bytes, stream>>>(args);
}

// Persistent launch: one block per multiprocessor, or one per tile if those are fewer.
template <class Args>
void launch_persistent(void (*kernel)(Args), const Args& args, int tiles, int threads,
                       size_t shared_bytes, cudaStream_t stream) {
  int device = 0, multiprocessors = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "device");
  launch_blocks(kernel, args, std::min(tiles, multiprocessors), threads, shared_bytes, stream);
}

}  // namespace dcnv2::cuda
