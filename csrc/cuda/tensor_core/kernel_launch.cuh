// SPDX-License-Identifier: BSD-3-Clause
// How a fused kernel is launched.
#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "cuda/common/elements.cuh"

namespace dcnv2::cuda {

// Shared memory in bytes that a block of the current device may have.
inline int shared_limit() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "device");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "device");
  return bytes;
}

// Raises the limit of a kernel's shared memory on the current device. The driver keeps it, so it is
// raised only if the kernel has never had as much.
inline void allow_shared_memory(const void* kernel, int bytes) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, int> allowed;  // by kernel and device
  int device = 0;
  check(cudaGetDevice(&device), "device");
  const std::lock_guard<std::mutex> lock(mutex);
  int& most = allowed[{kernel, device}];
  if (bytes <= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "shared memory");
  most = bytes;
}

template <class Args>
void launch_blocks(void (*kernel)(Args), const Args& args, dim3 blocks, int threads,
                   size_t shared_bytes, cudaStream_t stream) {
  const int bytes = static_cast<int>(shared_bytes);
  allow_shared_memory(reinterpret_cast<const void*>(kernel), bytes);
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
