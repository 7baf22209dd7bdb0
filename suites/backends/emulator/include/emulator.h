// SPDX-License-Identifier: BSD-3-Clause
// Runs CUDA kernels on the host, block after block, with the threads of a block as fibers that take
// turns: enough of CUDA for the project's kernels, so that their logic is tested, under sanitizers
// too, where there is no GPU. It knows nothing of weak memory order: races need a GPU's own tools.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

namespace emulator {

constexpr int kWarp = 32;

// The rendezvous of a warp: each lane brings a pointer, and all lanes can read all of them.
struct Warp {
  int lanes = 0, arrived = 0;
  uint64_t generation = 0;
  const void* brought[kWarp] = {};
};

struct Thread {
  dim3 index;
  int linear = 0;
  Warp* warp = nullptr;
  int lane() const { return linear % kWarp; }
};

extern dim3 grid_size, block_size, block_index;
Thread& current();
char* dynamic_shared();

// Lets the other threads of the block run. If none can, the error message names `waiting_for`.
void yield(const char* waiting_for);
// One thread made progress that others may wait for.
void progress();

// All threads of the block, or as many as `threads`, meet at barrier `number`.
void meet(int number, int threads);
// Waits for all lanes of the warp; the returned pointers are valid until the next call.
Warp& meet_warp(const void* brought);

struct Config {
  dim3 grid, block;
  size_t shared_bytes = 0;
};
inline Config config(dim3 grid, dim3 block, size_t shared_bytes = 0, cudaStream_t = nullptr) {
  return {grid, block, shared_bytes};
}
void run(const Config& config, const std::function<void()>& kernel);

template <class... P>
auto bind(void (*kernel)(P...), Config config) {
  return [=](std::type_identity_t<P>... args) { run(config, [&] { kernel(args...); }); };
}

// The value that lane `from` brought, of those of the whole warp.
template <class T>
T exchange(T value, int from) {
  Warp& warp = meet_warp(&value);
  const T got = from < warp.lanes ? *static_cast<const T*>(warp.brought[from]) : value;
  meet_warp(nullptr);
  return got;
}

}  // namespace emulator

#define gridDim (emulator::grid_size)
#define blockDim (emulator::block_size)
#define blockIdx (emulator::block_index)
#define threadIdx (emulator::current().index)

inline void __syncthreads() { emulator::meet(0, 0); }
inline void __syncwarp() { emulator::meet_warp(nullptr); }
template <class T>
T __shfl_xor_sync(unsigned, T v, int mask) {
  return emulator::exchange(v, emulator::current().lane() ^ mask);
}
template <class T>
T __shfl_down_sync(unsigned, T v, int by) {
  const int from = emulator::current().lane() + by;
  return emulator::exchange(v, from < emulator::kWarp ? from : emulator::current().lane());
}
template <class T>
T __shfl_up_sync(unsigned, T v, int by) {
  return emulator::exchange(v, std::max(emulator::current().lane() - by, 0));
}
template <class T>
T __shfl_sync(unsigned, T v, int from, int width = emulator::kWarp) {
  return emulator::exchange(v, emulator::current().lane() / width * width + from % width);
}
inline unsigned __ballot_sync(unsigned, bool yes) {
  unsigned all = unsigned(yes) << emulator::current().lane();
  for (int step = 1; step < emulator::kWarp; step *= 2) all |= __shfl_xor_sync(~0u, all, step);
  return all;
}
inline int __popc(unsigned v) { return std::popcount(v); }
inline int __ffs(int v) { return v == 0 ? 0 : std::countr_zero(unsigned(v)) + 1; }
inline int __popcll(uint64_t v) { return std::popcount(v); }
inline int __ffsll(int64_t v) { return v == 0 ? 0 : std::countr_zero(uint64_t(v)) + 1; }
inline int __clzll(int64_t v) { return std::countl_zero(uint64_t(v)); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }
template <class T>
T __ldg(const T* at) {
  return *at;
}
inline float __uint_as_float(uint32_t v) { return std::bit_cast<float>(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline uint32_t __float_as_uint(float v) { return std::bit_cast<uint32_t>(v); }
inline float __int_as_float(int32_t v) { return std::bit_cast<float>(v); }
inline int32_t __float_as_int(float v) { return std::bit_cast<int32_t>(v); }
using std::isfinite;
using std::max;
using std::min;
template <class T>
T atomicAdd(T* at, T by) {
  return std::exchange(*at, *at + by);
}
template <class T>
T atomicOr(T* at, T bits) {
  return std::exchange(*at, *at | bits);
}
