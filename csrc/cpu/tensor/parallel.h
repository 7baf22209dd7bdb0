// SPDX-License-Identifier: BSD-3-Clause
// Tasks for torch's threads, and their memory.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>

namespace dcnv2::cpu {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls make_worker() once on every thread, and the worker that it returns once for each of its
// tasks, out of 0 .. tasks - 1. Which thread runs a task is arbitrary, so no result may depend on
// it: every task writes its own memory, and the tasks depend on shapes only.
template <class MakeWorker>
void run_tasks(int64_t tasks, const MakeWorker& make_worker) {
  if (tasks <= 0) return;
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), tasks);
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    auto worker = make_worker();
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) worker(task);
  });
}

// Uninitialised memory of some extents, aligned to a cache line. Throws if their product overflows:
// a tensor whose strides are 0 may have any size.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::initializer_list<int64_t> extents) {
    int64_t bytes = sizeof(T);
    for (const int64_t extent : extents) {
      if (__builtin_mul_overflow(bytes, extent, &bytes)) throw std::bad_array_new_length();
    }
    if (bytes <= 0) return;
    data_.reset(static_cast<T*>(::operator new[](static_cast<size_t>(bytes), kAlign)));
  }

  T* data() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr std::align_val_t kAlign{64};
  struct Free {
    void operator()(T* p) const { ::operator delete[](p, kAlign); }
  };

  std::unique_ptr<T, Free> data_;
};

}  // namespace dcnv2::cpu
