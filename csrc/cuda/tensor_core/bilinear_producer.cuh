// SPDX-License-Identifier: BSD-3-Clause
// The sampling warps: they turn offsets into weights of four corners, and corners into a slab of
// modulated samples in shared memory. Eight lanes share a row, so that a corner of 64 halves (or 32
// floats) is one line of 128 bytes.
#pragma once

#include "cuda/common/common.cuh"
#include "cuda/tensor_core/mma/mma_sync.cuh"
#include "cuda/tensor_core/pixel_order.cuh"
#include "cuda/tensor_core/mma/smem_layout.cuh"

namespace dcnv2::cuda {

constexpr int kTableTaps = 9;  // taps whose corners a table holds at a time

// One sample to take: an output pixel, a tap, a deform group. Not wanted: nothing is read.
struct Place {
  Pixel pixel;
  int tap, deform_group;
  bool wanted;
};

// An element of a view as it lies, to be widened later: a load that nothing waits for yet.
__device__ __forceinline__ uint32_t load_raw(const View4& view, int64_t at) {
  if (view.dtype == Dtype::kFloat32) return __ldg(static_cast<const uint32_t*>(view.data) + at);
  return __ldg(static_cast<const uint16_t*>(view.data) + at);
}
__device__ __forceinline__ float widen_raw(Dtype dtype, uint32_t raw) {
  const uint16_t half = uint16_t(raw);
  if (dtype == Dtype::kFloat16) return widen(reinterpret_cast<const __half&>(half));
  return __uint_as_float(dtype == Dtype::kBFloat16 ? raw << 16 : raw);
}

// Row and column of a tap. For the at most 2^20 taps that paths.cpp lets in, a quotient of floats is exact
// enough, and cheaper than one of integers.
struct KernelPlace {
  int row, column;
};
__device__ __forceinline__ KernelPlace kernel_place(int tap, int kernel_w) {
  const int row = int(__fdividef(float(tap) + 0.5f, float(kernel_w)));
  return {row, tap - row * kernel_w};
}

__device__ __forceinline__ void store_narrow(const View4& view, int64_t at, float value) {
  if (view.dtype == Dtype::kFloat32) {
    static_cast<float*>(view.data)[at] = value;
  } else if (view.dtype == Dtype::kFloat16) {
    static_cast<__half*>(view.data)[at] = narrow<__half>(value);
  } else {
    static_cast<__nv_bfloat16*>(view.data)[at] = narrow<__nv_bfloat16>(value);
  }
}

// What a sample is made of, as it lies in memory: asked for, and not waited for yet.
struct RawSample {
  uint32_t dy, dx, mask;
};
// offset_at, mask_at: where the pixel's first channels lie; channel: of the mask.
__device__ __forceinline__ RawSample ask_sample(const ConvArgs& a, int64_t offset_at, int64_t mask_at,
                                                int channel) {
  RawSample raw{};
  const int64_t at = offset_at + 2 * channel * a.offset.stride_c;
  raw.dy = load_raw(a.offset, at);
  raw.dx = load_raw(a.offset, at + a.offset.stride_c);
  if (a.mask.data != nullptr) raw.mask = load_raw(a.mask, mask_at + channel * a.mask.stride_c);
  return raw;
}
__device__ __forceinline__ RawSample ask_sample(const ConvArgs& a, const Place& place) {
  if (!place.wanted) return {};
  const Pixel& p = place.pixel;
  return ask_sample(a, a.offset.index(p.n, 0, p.y, p.x), a.mask.index(p.n, 0, p.y, p.x),
                    place.deform_group * int(a.g.taps()) + place.tap);
}

// The sample of a place that is wanted, and its modulation, 1 without a mask.
__device__ __forceinline__ Sample<float> take_sample(const ConvArgs& a, const Place& place,
                                                     const RawSample& raw, float& mask) {
  const ConvGeometry& g = a.g;
  const Pixel& p = place.pixel;
  mask = a.mask.data != nullptr ? widen_raw(a.mask.dtype, raw.mask) : 1;
  const KernelPlace k = kernel_place(place.tap, int(g.kernel_w));
  const int y = undeformed(p.y, int(g.stride_h), int(g.pad_h), k.row, int(g.dilation_h));
  const int x = undeformed(p.x, int(g.stride_w), int(g.pad_w), k.column, int(g.dilation_w));
  return make_sample(float(y) + widen_raw(a.offset.dtype, raw.dy),
                     float(x) + widen_raw(a.offset.dtype, raw.dx), int(g.height), int(g.width));
}

// Where a sample reads: the address of channel 0 of its upper left pixel, the bytes to the pixels on
// the right and below, and the modulated weights of the corners. Corners off the map have no weight
// and stand on one that is on it; a sample that is off the map altogether, or NaN, reads zeros.
struct Reading {
  const char* at;
  int right, down;
  float4 weight;
};

// The input as sampling sees it, and a row of zeros of in_channels elements.
struct Source {
  const char* input;
  const char* zeros;
  int pixel_bytes, line_bytes;
};

template <class T>
__device__ __forceinline__ Source make_source(const ConvArgs& a, const void* zeros) {
  const int pixel_bytes = int(a.g.in_channels) * int(sizeof(T));
  return {static_cast<const char*>(a.input), static_cast<const char*>(zeros), pixel_bytes,
          int(a.g.width) * pixel_bytes};
}

__device__ __forceinline__ Reading make_reading(const ConvArgs& a, const Source& source, int n,
                                                const Sample<float>& s, float mask) {
  const int height = int(a.g.height), width = int(a.g.width);
  if (s.nan || mask != mask) return {source.zeros, 0, 0, {NAN, 0, 0, 0}};
  if (!s.inside) return {source.zeros, 0, 0, {0, 0, 0, 0}};
  const Corners<float> c = make_corners(s, height, width);
  const int y = max(s.y, 0), x = max(s.x, 0);
  Reading r;
  r.at = source.input + int64_t(n * height + y) * source.line_bytes + int64_t(x) * source.pixel_bytes;
  r.right = s.x >= 0 && s.x + 1 < width ? source.pixel_bytes : 0;
  r.down = s.y >= 0 && s.y + 1 < height ? source.line_bytes : 0;
  r.weight = {c.valid[0] ? mask * c.weight[0] : 0, c.valid[1] ? mask * c.weight[1] : 0,
              c.valid[2] ? mask * c.weight[2] : 0, c.valid[3] ? mask * c.weight[3] : 0};
  return r;
}

// The same with the distances from the upper left pixel, the modulation and the corners that are on
// the map (bit by bit) for weights, as gradients by the position want them.
__device__ __forceinline__ Reading make_slope_reading(const ConvArgs& a, const Source& source, int n,
                                                      const Sample<float>& s, float mask) {
  Reading r = make_reading(a, source, n, s, 1);
  const Corners<float> c = make_corners(s, int(a.g.height), int(a.g.width));
  const int on_map = c.valid[0] | c.valid[1] << 1 | c.valid[2] << 2 | c.valid[3] << 3;
  const float poison = s.nan ? NAN : 0;
  r.weight = {s.ly + poison, s.lx + poison, mask, __int_as_float(on_map)};
  return r;
}

// What a reading holds: weights of the corners, or what gradients by the position want.
enum class Want { kWeights, kSlopes };

template <Want kWant>
__device__ __forceinline__ Reading take_reading(const ConvArgs& a, const Source& source,
                                                const Place& place, const RawSample& raw) {
  if (!place.wanted) return {source.zeros, 0, 0, {0, 0, 0, 0}};
  float mask;
  const Sample<float> sample = take_sample(a, place, raw, mask);
  return kWant == Want::kWeights ? make_reading(a, source, place.pixel.n, sample, mask)
                                 : make_slope_reading(a, source, place.pixel.n, sample, mask);
}
template <Want kWant>
__device__ __forceinline__ Reading load_reading(const ConvArgs& a, const Source& source,
                                                const Place& place) {
  return take_reading<kWant>(a, source, place, ask_sample(a, place));
}

// The readings of a tile's rows at several turns: taps of the same pixels, or the next pixels.
template <Want kWant, int kRows, int kTurns = kTableTaps>
struct ReadingTable {
  int4 places[kTurns * kRows];  // at (two words), right, down
  float4 weights[kTurns * kRows];

  // where(turn, row): the sample to take. Not wanted ones read zeros.
  template <int kThreads, class Where>
  __device__ void fill(const ConvArgs& a, const Source& source, int turns, int thread, Where where) {
    constexpr int kBatch = 2;
    for (int begin = thread; begin < turns * kRows; begin += kBatch * kThreads) {
      Place wanted[kBatch] = {};
      RawSample raw[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int entry = begin + i * kThreads;
        if (entry < turns * kRows) wanted[i] = where(entry / kRows, entry % kRows);
        raw[i] = ask_sample(a, wanted[i]);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int entry = begin + i * kThreads;
        if (entry < turns * kRows) put(entry, take_reading<kWant>(a, source, wanted[i], raw[i]));
      }
    }
  }
  __device__ void put(int entry, const Reading& r) {
    const uint64_t at = reinterpret_cast<uint64_t>(r.at);
    places[entry] = {int(uint32_t(at)), int(uint32_t(at >> 32)), r.right, r.down};
    weights[entry] = r.weight;
  }

  // The same by the table's address in shared memory.
  static __device__ Reading reading(uint32_t table, int turn, int row) {
    const uint32_t at = table + (turn * kRows + row) * int(sizeof(int4));
    const uint4 p = load_shared(at), w = load_shared(at + int(sizeof(places)));
    const uint64_t to = uint64_t(p.y) << 32 | p.x;
    return {reinterpret_cast<const char*>(to), int(p.z), int(p.w),
            {__uint_as_float(w.x), __uint_as_float(w.y), __uint_as_float(w.z), __uint_as_float(w.w)}};
  }
  __device__ Reading reading(int turn, int row) const {
    const int4 p = places[turn * kRows + row];
    const uint64_t at = uint64_t(uint32_t(p.y)) << 32 | uint32_t(p.x);
    return {reinterpret_cast<const char*>(at), p.z, p.w, weight(turn, row)};
  }
  __device__ float4 weight(int turn, int row) const { return weights[turn * kRows + row]; }
};

// Whether a slab never holds channels of two deform groups, so that a table serves whole rows.
inline bool rows_share_readings(const ConvGeometry& g, int slab) {
  return g.deform_channels() % g.group_in() == 0 ||
         (g.deform_channels() % slab == 0 && g.group_in() % g.deform_channels() == 0);
}

// Some samples at one chunk, on their way.
template <int kCount>
struct Corners4 {
  uint4 value[kCount][4];
  float4 weight[kCount];

  // Of the rows row0, row0 + row_step, ...; reading(row) tells where they are.
  template <class GetReading>
  __device__ void load(int row0, int row_step, GetReading reading) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Reading r = reading(row0 + i * row_step);
      value[i][0] = load_chunk(r.at);
      value[i][1] = load_chunk(r.at + r.right);
      value[i][2] = load_chunk(r.at + r.down);
      value[i][3] = load_chunk(r.at + r.down + r.right);
      weight[i] = r.weight;
    }
  }
  template <class M, int kPartBytes>
  __device__ void store(uint32_t to, int step_bytes) const {
    using T = typename M::element;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      float v[kVector<T>] = {};
      add_chunk(value[i][0], weight[i].x, v, T{});
      add_chunk(value[i][1], weight[i].y, v, T{});
      add_chunk(value[i][2], weight[i].z, v, T{});
      add_chunk(value[i][3], weight[i].w, v, T{});
      if constexpr (M::kTurned) {
        store_across<M, kPartBytes>(to + i * step_bytes, v);
      } else {
        store_operand<M, kPartBytes>(to + i * step_bytes, v);
      }
    }
  }
};
template <>
struct Corners4<0> {
  template <class GetReading>
  __device__ void load(int, int, GetReading) {}
  template <class M, int kPartBytes>
  __device__ void store(uint32_t, int) const {}
};

// Samples one step after the other: a thread's share of kItems rows. While the corners of some are added up,
// those of others are on their way. kPartBytes: from one part of the operand to the next in a stage; kCopies: the
// thread copies more into the stage by itself.
template <class M, int kItems, int kItemBytes, int kPartBytes, bool kCopies>
struct SampleFiller {
  static constexpr int kFirst = kItems / 2, kSecond = kItems - kFirst;

  // All have values at once: what had none, ptxas 13.0 once took for what comes after it.
  Corners4<kSecond> second{};  // on its way from one step to the next,
  uint32_t pending_slab = 0;   // to go here
  uint32_t pending = 0;        // and fill the stage of this barrier

  // load(corners, item): asks for the corners from that item on; open(): waits for the stage and begins copies
  // into it; slab, full: addresses of where the first item goes and of the stage's barrier.
  template <class Load, class Open>
  __device__ void step(Load load, Open open, uint32_t slab, uint32_t full) {
    Corners4<kFirst> first;
    Corners4<kSecond> next;
    load(first, 0);
    if (kFirst == 0) load(next, 0);
    finish_pending();
    open();
    if (kFirst > 0) {
      load(next, kFirst);
      first.template store<M, kPartBytes>(slab, kItemBytes);
    }
    second = next;
    pending = full;
    pending_slab = slab + kFirst * kItemBytes;
  }
  __device__ void finish_pending() {
    if (pending == 0) return;
    second.template store<M, kPartBytes>(pending_slab, kItemBytes);
    if constexpr (kCopies) wait_copies();
    arrive_filled<M>(pending);
    pending = 0;
  }
};

}  // namespace dcnv2::cuda
