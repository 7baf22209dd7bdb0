// SPDX-License-Identifier: BSD-3-Clause
#include "emulator.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

extern "C" int shared_memory_limit;
int shared_memory_limit = 232448;  // bytes a block, of an H100

namespace emulator {

dim3 grid_size, block_size, block_index;

namespace {

constexpr size_t kStackBytes = size_t(256) << 10;
constexpr size_t kSharedBytes = size_t(256) << 10;  // also the alignment, as descriptors require

// The point where a fiber resumes: its stack pointer. Callee-saved registers are on the stack.
struct Context {
  void* stack = nullptr;
};

extern "C" void emulator_switch(Context* from, Context* to);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

struct Fiber {
  Context context;
  Thread thread;
  std::unique_ptr<char[]> stack;
  bool done = true;
};

struct Meeting {
  int arrived = 0;
  uint64_t generation = 0;
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Warp> warps;
Meeting meetings[16];
Context scheduler;
Fiber* running = nullptr;
int live = 0;
uint64_t progress_made = 0;
const std::function<void()>* body = nullptr;

char* shared_memory() {
  static char* const memory = [] {
    void* at = mmap(nullptr, 2 * kSharedBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (at == MAP_FAILED) std::abort();
    const uintptr_t aligned = (uintptr_t(at) + kSharedBytes - 1) / kSharedBytes * kSharedBytes;
    return reinterpret_cast<char*>(aligned);
  }();
  return memory;
}

void enter() {
  (*body)();
  running->done = true;
  --live;
  progress();
  emulator_switch(&running->context, &scheduler);
}

void start(Fiber& fiber) {
  if (!fiber.stack) fiber.stack.reset(new char[kStackBytes]);
  fiber.done = false;
  auto top = (reinterpret_cast<uintptr_t>(fiber.stack.get()) + kStackBytes) / 16 * 16;
  auto* words = reinterpret_cast<void**>(top) - 8;  // six registers, where to go, and alignment
  std::fill_n(words, 8, nullptr);
  words[6] = reinterpret_cast<void*>(&enter);
  fiber.context.stack = words;
}

void run_block() {
  while (live > 0) {
    const uint64_t before = progress_made;
    for (auto& fiber : fibers) {
      if (fiber->done) continue;
      running = fiber.get();
      emulator_switch(&scheduler, &fiber->context);
    }
    if (live > 0 && progress_made == before) {
      std::fprintf(stderr, "emulator: %d threads of block %u wait for ever\n", live, block_index.x);
      std::abort();
    }
  }
}

}  // namespace

Thread& current() { return running->thread; }
char* dynamic_shared() { return shared_memory(); }
void progress() { ++progress_made; }
void yield(const char*) { emulator_switch(&running->context, &scheduler); }

void meet(int number, int threads) {
  Meeting& meeting = meetings[number];
  const uint64_t generation = meeting.generation;
  const int wanted = threads > 0 ? threads : int(block_size.x * block_size.y * block_size.z);
  ++meeting.arrived;
  progress();
  if (meeting.arrived == wanted) {
    meeting.arrived = 0;
    ++meeting.generation;
    return;
  }
  while (meeting.generation == generation) yield("a barrier");
}

Warp& meet_warp(const void* brought) {
  Warp& warp = *running->thread.warp;
  const uint64_t generation = warp.generation;
  if (brought != nullptr) warp.brought[running->thread.lane()] = brought;
  progress();
  if (++warp.arrived == warp.lanes) {
    warp.arrived = 0;
    ++warp.generation;
    return warp;
  }
  while (warp.generation == generation) yield("the lanes of a warp");
  return warp;
}

void run(const Config& config, const std::function<void()>& kernel) {
  grid_size = config.grid;
  block_size = config.block;
  const int threads = int(block_size.x * block_size.y * block_size.z);
  if (config.shared_bytes > size_t(shared_memory_limit) || threads > 1024) {
    std::fprintf(stderr, "emulator: no chip runs %d threads with %zu bytes of shared memory\n", threads,
                 config.shared_bytes);
    std::abort();
  }
  while (int(fibers.size()) < threads) fibers.push_back(std::make_unique<Fiber>());
  body = &kernel;
  // Each launch begins with another block: what depends on their order differs from run to run.
  static unsigned launches = 0;
  const unsigned first = launches++ * 7919 % grid_size.x;
  for (unsigned z = 0; z < grid_size.z; ++z) {
    for (unsigned y = 0; y < grid_size.y; ++y) {
      for (unsigned x = 0; x < grid_size.x; ++x) {
        block_index = dim3((first + x) % grid_size.x, y, z);
        std::memset(shared_memory(), 0xff, kSharedBytes);  // NaN in every type
        warps.assign((threads + kWarp - 1) / kWarp, {});
        for (Meeting& meeting : meetings) meeting = {};
        for (int i = 0; i < threads; ++i) {
          Thread& thread = fibers[i]->thread;
          thread.linear = i;
          thread.index = dim3(i % block_size.x, i / block_size.x % block_size.y,
                              i / block_size.x / block_size.y);
          thread.warp = &warps[i / kWarp];
          ++thread.warp->lanes;
          start(*fibers[i]);
        }
        live = threads;
        run_block();
      }
    }
  }
}

}  // namespace emulator

// What the launchers ask of the runtime.
extern "C" {
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9
           : attribute == cudaDevAttrMultiProcessorCount  ? 3
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? shared_memory_limit
                                                          : 0;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
}
