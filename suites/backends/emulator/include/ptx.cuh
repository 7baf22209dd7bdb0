// SPDX-License-Identifier: BSD-3-Clause
// Replaces csrc/cuda/tensor_core/mma/ptx*.cuh in the emulator: each instruction by its definition.
#pragma once

#include "emulator.h"

namespace dcnv2::cuda {

constexpr bool kHasWgmma = true;

// Shared memory is mapped below 4 GiB.
inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p));
}
inline char* at_shared(uint32_t address) { return reinterpret_cast<char*>(uintptr_t(address)); }

inline uint32_t opaque_address(uint32_t at) { return at; }
inline uint4 load_shared(uint32_t at) { return *reinterpret_cast<const uint4*>(at_shared(at)); }
inline void store_shared(uint32_t at, const uint4& v) { *reinterpret_cast<uint4*>(at_shared(at)) = v; }

inline uint32_t load_shared_word(uint32_t at) { return *reinterpret_cast<const uint32_t*>(at_shared(at)); }
inline void store_shared_word(uint32_t at, uint32_t v) { *reinterpret_cast<uint32_t*>(at_shared(at)) = v; }

struct alignas(8) Barrier {
  uint8_t phase;
  uint8_t unused;
  uint16_t count, missing;
  uint16_t pad;

  void init(int threads) {
    phase = 0;
    count = missing = uint16_t(threads);
  }
  void arrive() {
    if (--missing == 0) {
      missing = count;
      phase ^= 1;
    }
    emulator::progress();
  }
  static void arrive(uint32_t at) { reinterpret_cast<Barrier*>(at_shared(at))->arrive(); }
  static void wait(uint32_t at, uint32_t parity) {
    reinterpret_cast<Barrier*>(at_shared(at))->wait(parity);
  }
  void wait(uint32_t parity) {
    while (phase == (parity & 1)) emulator::yield("a barrier in shared memory");
  }
};
static_assert(sizeof(Barrier) == 8);

inline void fence_proxy_async() {}
inline void fence_barrier_init() {}
// Copies at once, so no barrier has to wait for the announced bytes.
inline void bulk_copy_g2s(void* to, const void* from, int bytes, Barrier&) {
  std::memcpy(to, from, size_t(bytes));
}
inline void cp_async_vec16(uint32_t to, const void* from, bool zeros = false) {
  zeros ? std::memset(at_shared(to), 0, 16) : std::memcpy(at_shared(to), from, 16);
}
inline void cp_async_wait_all() {}
inline void cp_async_mbarrier_arrive(Barrier& barrier) { barrier.arrive(); }
inline void named_barrier(int number, int threads) { emulator::meet(number, threads); }
template <int kRegisters>
void warpgroup_reg_alloc() {}
template <int kRegisters>
void warpgroup_reg_dealloc() {}

// Element [row, col] of a matrix; lane 8 * matrix + row passes the address of its row.
inline uint16_t matrix_element(const emulator::Warp& warp, int matrix, int row, int col) {
  const uint32_t at = *static_cast<const uint32_t*>(warp.brought[matrix * 8 + row]);
  uint16_t v;
  std::memcpy(&v, at_shared(at) + 2 * col, 2);
  return v;
}
template <bool kTransposed>
void ldmatrix_x4_as(uint32_t (&r)[4], uint32_t at) {
  const emulator::Warp& warp = emulator::meet_warp(&at);
  const int lane = emulator::current().lane(), row = lane / 4, col = lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = kTransposed ? matrix_element(warp, i, col, row)
                                     : matrix_element(warp, i, row, col);
    const uint32_t high = kTransposed ? matrix_element(warp, i, col + 1, row)
                                      : matrix_element(warp, i, row, col + 1);
    r[i] = low | high << 16;
  }
  emulator::meet_warp(nullptr);
}
inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t at) { ldmatrix_x4_as<false>(r, at); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t at) {
  ldmatrix_x4_as<true>(r, at);
}

inline float half_value(uint32_t word, int high, __half) {
  const __half_raw raw{uint16_t(high ? word >> 16 : word)};
  return __half2float(__half(raw));
}
inline float half_value(uint32_t word, int high, __nv_bfloat16) {
  return __uint_as_float(high ? word & 0xffff0000u : word << 16);
}

struct Fragments {
  const uint32_t *a, *b;
};
// kDepth elements of depth, kPacked of them in a register; value(register, which of the packed).
template <int kDepth, int kPacked, class Value>
void multiply_fragments(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Value value) {
  const Fragments mine{a, b};
  const emulator::Warp& warp = emulator::meet_warp(&mine);
  const int lane = emulator::current().lane();
  constexpr int kHalf = kDepth / 2;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
    for (int k = 0; k < kDepth; ++k) {
      const int within = k % kHalf, high = k / kHalf;
      auto of = [&](int line) {
        return static_cast<const Fragments*>(warp.brought[line % 8 * 4 + within / kPacked]);
      };
      d[i] += value(of(row)->a[row / 8 + 2 * high], within % kPacked) *
              value(of(col)->b[high], within % kPacked);
    }
  }
  emulator::meet_warp(nullptr);
}
template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], T type) {
  multiply_fragments<16, 2>(d, a, b,
                            [&](uint32_t word, int high) { return half_value(word, high, type); });
}
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  multiply_fragments<8, 1>(d, a, b, [](uint32_t word, int) {
    return __uint_as_float(word & 0xffffe000u);  // the unit does not look at the lowest bits
  });
}
inline uint32_t to_tf32(float v) {  // to the nearest, ties away from zero
  const uint32_t bits = __float_as_uint(v);
  return std::isfinite(v) ? (bits + 0x1000u) & 0xffffe000u : bits;
}

enum class Major { kK = 0, kMN = 1 };

// As the chip packs it, so that the packing is tested too.
inline uint64_t tile_descriptor(uint32_t at, uint32_t atom_bytes) {
  constexpr uint64_t kGroupBytes = 8 * 128, kSwizzle128 = 1;
  return uint64_t(at & 0x3ffff) >> 4 | uint64_t(atom_bytes >> 4) << 16 | (kGroupBytes >> 4) << 32 |
         kSwizzle128 << 62;
}
inline void wgmma_fence() {}
inline void wgmma_commit() {}
template <int kCount>
void warpgroup_fence_operand(float (&)[kCount]) {}
template <int kPending>
void wgmma_wait() {}


// Element (line, k) of an operand, by the definition of its descriptor.
template <class T, Major kMajor>
float described(uint64_t descriptor, int line, int k) {
  const uint64_t start = (descriptor & 0x3fff) << 4, atom = (descriptor >> 16 & 0x3fff) << 4;
  const uint64_t group = (descriptor >> 32 & 0x3fff) << 4;
  static_assert(sizeof(T) == 2 || kMajor == Major::kK);
  uint64_t at = kMajor == Major::kK
                    ? start + line / 8 * group + line % 8 * 128 + k * sizeof(T)
                    : start + line / 64 * atom + k / 8 * group + k % 8 * 128 + line % 64 * 2;
  at ^= (at >> 7 & 7) << 4;
  std::conditional_t<sizeof(T) == 2, uint16_t, uint32_t> bits;
  // The address has 18 bits: the rest is that of the block's shared memory.
  const uint64_t base = reinterpret_cast<uintptr_t>(emulator::dynamic_shared()) & ~uint64_t(0x3ffff);
  std::memcpy(&bits, reinterpret_cast<const char*>(base + at), sizeof(T));
  if constexpr (sizeof(T) == 4) {
    return __uint_as_float(bits & 0xffffe000u);  // the unit does not look at the lowest bits
  } else {
    return half_value(bits, 0, T{});
  }
}
template <class T, Major kA, Major kB, int kSums>
void wgmma(float (&d)[kSums], uint64_t a, uint64_t b) {
  const int thread = emulator::current().linear % 128, lane = thread % 32;
  constexpr int kDepth = 32 / sizeof(T);
  for (int row = 0; row < 2; ++row) {
    float line[kDepth];
    for (int k = 0; k < kDepth; ++k) {
      line[k] = described<T, kA>(a, thread / 32 * 16 + lane / 4 + row * 8, k);
    }
    for (int pair = 0; pair < kSums / 4; ++pair) {
      for (int i = 0; i < 2; ++i) {
        float sum = 0;
        for (int k = 0; k < kDepth; ++k) {
          sum += line[k] * described<T, kB>(b, pair * 8 + lane % 4 * 2 + i, k);
        }
        d[pair * 4 + row * 2 + i] += sum;
      }
    }
  }
}
template <int kSums>
void wgmma_rs(float (&d)[kSums], const uint32_t (&a)[4], uint64_t b) {
  const emulator::Warp& warp = emulator::meet_warp(&a);
  const int lane = emulator::current().lane();
  for (int row = 0; row < 2; ++row) {
    for (int sum = 0; sum < kSums / 2; ++sum) {
      float added = 0;
      for (int k = 0; k < 8; ++k) {
        const auto* of_lane = static_cast<const uint32_t*>(warp.brought[lane / 4 * 4 + k % 4]);
        const float v = __uint_as_float(of_lane[row + k / 4 * 2] & 0xffffe000u);
        added += v * described<float, Major::kK>(b, sum / 2 * 8 + lane % 4 * 2 + sum % 2, k);
      }
      d[sum / 2 * 4 + row * 2 + sum % 2] += added;
    }
  }
  emulator::meet_warp(nullptr);
}

}  // namespace dcnv2::cuda
