// SPDX-License-Identifier: BSD-3-Clause
// How a fused kernel is launched.
#pragma once

#include <algorithm>

#include "cuda/common/elements.cuh"

namespace dcnv2::cuda {

// Shared memory in bytes that a block of the current device may have.
inline int shared_limit() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "device");
  return bytes;
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
