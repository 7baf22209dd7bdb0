// SPDX-License-Identifier: BSD-3-Clause
// The sort of CUB that the kernels use.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "emulator.h"

namespace cub {
struct DeviceRadixSort {
  template <class Key, class Value>
  static cudaError_t SortPairs(void* workspace, size_t& bytes, const Key* keys_in, Key* keys_out,
                               const Value* values_in, Value* values_out, int64_t count, int = 0,
                               int = 0, cudaStream_t = nullptr) {
    if (workspace == nullptr) {
      bytes = count * (sizeof(Key) + sizeof(Value));  // CUB's second buffers
      return cudaSuccess;
    }
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), int64_t(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return keys_in[a] < keys_in[b]; });
    std::memset(workspace, 0xff, bytes);  // an array that shares its memory is lost
    for (int64_t i = 0; i < count; ++i) {
      keys_out[i] = keys_in[order[i]];
      values_out[i] = values_in[order[i]];
    }
    return cudaSuccess;
  }
};
}  // namespace cub
