// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/common/elements.cuh"

namespace dcnv2::cuda {

// The bytes of workspace that query(bytes) asks of an algorithm of CUB, which depend on the device
// and on `items` and `bits`. The last result of each query is kept: CUB asks the driver, which
// takes longer than a launch.
template <class Query>
size_t cub_workspace(int64_t items, int bits, Query query) {
  struct Answer {
    int device = -1, bits = 0;
    int64_t items = 0;
    size_t bytes = 0;
  };
  thread_local Answer last;
  int device = 0;
  check(cudaGetDevice(&device), "device");
  if (device != last.device || bits != last.bits || items != last.items) {
    size_t bytes = 0;
    query(bytes);
    last = {device, bits, items, bytes};
  }
  return last.bytes;
}

}  // namespace dcnv2::cuda
