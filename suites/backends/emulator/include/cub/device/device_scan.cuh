// SPDX-License-Identifier: BSD-3-Clause
// The scan of CUB that the kernels use.
#pragma once

#include <cstring>
#include <numeric>

#include "emulator.h"

namespace cub {
struct DeviceScan {
  template <class T, class Count>
  static cudaError_t ExclusiveSum(void* workspace, size_t& bytes, const T* in, T* out, Count count,
                                  cudaStream_t = nullptr) {
    if (workspace == nullptr) {
      bytes = 256;
      return cudaSuccess;
    }
    std::memset(workspace, 0xff, bytes);  // an array that shares its memory is lost
    std::exclusive_scan(in, in + count, out, T(0));
    return cudaSuccess;
  }
};
}  // namespace cub
