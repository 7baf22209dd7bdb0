// SPDX-License-Identifier: BSD-3-Clause
// From offsets to addresses: where a sample's four corners are and how much each of them counts.
#pragma once

#include "cuda/common/elements.cuh"
#include "cuda/tensor_core/mma/ptx.cuh"
#include "cuda/tensor_core/pixel_order.cuh"

namespace dcnv2::cuda {

constexpr int kTableTaps = 9;  // taps whose sample addresses a table holds

// One sample: an output pixel, a tap, a deform group. Nothing is read for an invalid one.
struct SampleId {
  Pixel pixel;
  int tap, deform_group;
  bool valid;
};

// An element of a view without conversion, so that nothing depends on the load yet.
__device__ __forceinline__ uint32_t load_raw(const View4& view, int64_t at) {
  if (view.dtype == Dtype::kFloat32) return __ldg(static_cast<const uint32_t*>(view.data) + at);
  return __ldg(static_cast<const uint16_t*>(view.data) + at);
}
__device__ __forceinline__ float widen_raw(Dtype dtype, uint32_t raw) {
  const uint16_t half = uint16_t(raw);
  if (dtype == Dtype::kFloat16) return widen(reinterpret_cast<const __half&>(half));
  return __uint_as_float(dtype == Dtype::kBFloat16 ? raw << 16 : raw);
}

// Row and column of a tap. paths.cpp accepts at most 2^20 taps, for which the float quotient is
// exact enough; it is cheaper than an integer division.
struct TapPosition {
  int row, column;
};
__device__ __forceinline__ TapPosition tap_position(int tap, int kernel_w) {
  const int row = int(__fdividef(float(tap) + 0.5f, float(kernel_w)));
  return {row, tap - row * kernel_w};
}

// The loaded but unconverted offset and mask of a sample.
struct RawSample {
  uint32_t dy, dx, mask;
};
// offset_at, mask_at: index of the pixel's first channel in each view; channel: of the mask.
__device__ __forceinline__ RawSample prefetch_sample(const ConvArgs& a, int64_t offset_at,
                                                     int64_t mask_at, int channel) {
  RawSample raw{};
  const int64_t at = offset_at + 2 * channel * a.offset.stride_c;
  raw.dy = load_raw(a.offset, at);
  raw.dx = load_raw(a.offset, at + a.offset.stride_c);
  if (a.mask.data != nullptr) raw.mask = load_raw(a.mask, mask_at + channel * a.mask.stride_c);
  return raw;
}
__device__ __forceinline__ RawSample prefetch_sample(const ConvArgs& a, const SampleId& id) {
  if (!id.valid) return {};
  const Pixel& p = id.pixel;
  return prefetch_sample(a, a.offset.index(p.n, 0, p.y, p.x), a.mask.index(p.n, 0, p.y, p.x),
                         id.deform_group * int(a.g.taps()) + id.tap);
}

// Where the pixels of a tile's rows begin in the views of offset and mask, in elements. Where every
// lane has its own sample, this saves each of them the index products.
template <int kRows>
struct SampleStarts {
  int64_t offset[kRows], mask[kRows];

  __device__ void put(const ConvArgs& a, int row, const Pixel& p) {
    offset[row] = a.offset.index(p.n, 0, p.y, p.x);
    mask[row] = a.mask.index(p.n, 0, p.y, p.x);
  }
  // channel: of the mask.
  __device__ RawSample prefetch(const ConvArgs& a, int row, int channel) const {
    return prefetch_sample(a, offset[row], mask[row], channel);
  }
};

// The sample of a valid id, and its modulation, 1 without a mask.
__device__ __forceinline__ Sample<float> consume_sample(const ConvArgs& a, const SampleId& id,
                                                        const RawSample& raw, float& mask) {
  const ConvGeometry& g = a.g;
  const Pixel& p = id.pixel;
  mask = a.mask.data != nullptr ? widen_raw(a.mask.dtype, raw.mask) : 1;
  const TapPosition k = tap_position(id.tap, int(g.kernel_w));
  const int y = undeformed(p.y, int(g.stride_h), int(g.pad_h), k.row, int(g.dilation_h));
  const int x = undeformed(p.x, int(g.stride_w), int(g.pad_w), k.column, int(g.dilation_w));
  return make_sample(float(y), float(x), widen_raw(a.offset.dtype, raw.dy),
                     widen_raw(a.offset.dtype, raw.dx), int(g.height), int(g.width));
}

// What to load for a sample: the address of channel 0 of its upper left pixel, byte distances to
// the pixels on the right and below, and the modulated weights of the corners. A corner off the map
// has no weight and the address of one that is on it; a sample off the map, or NaN, reads zeros.
struct SampleAddress {
  const char* at;
  int right, down;
  float4 weight;
};

// The input, and a row of in_channels zeros.
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

__device__ __forceinline__ SampleAddress make_address(const ConvArgs& a, const Source& source,
                                                      int n, const Sample<float>& s, float mask) {
  const int height = int(a.g.height), width = int(a.g.width);
  if (s.nan || mask != mask) return {source.zeros, 0, 0, {NAN, 0, 0, 0}};
  if (!s.inside) return {source.zeros, 0, 0, {0, 0, 0, 0}};
  const Corners<float> c = make_corners(s, height, width);
  const int y = max(s.y, 0), x = max(s.x, 0);
  SampleAddress r;
  r.at =
      source.input + int64_t(n * height + y) * source.line_bytes + int64_t(x) * source.pixel_bytes;
  r.right = s.x >= 0 && s.x + 1 < width ? source.pixel_bytes : 0;
  r.down = s.y >= 0 && s.y + 1 < height ? source.line_bytes : 0;
  r.weight = {c.valid[0] ? mask * c.weight[0] : 0, c.valid[1] ? mask * c.weight[1] : 0,
              c.valid[2] ? mask * c.weight[2] : 0, c.valid[3] ? mask * c.weight[3] : 0};
  return r;
}

// The same for gradients by the position: `weight` holds the distances from the upper left pixel,
// the modulation, and one bit for each corner that is on the map.
__device__ __forceinline__ SampleAddress make_slope_address(const ConvArgs& a, const Source& source,
                                                            int n, const Sample<float>& s,
                                                            float mask) {
  SampleAddress r = make_address(a, source, n, s, 1);
  const Corners<float> c = make_corners(s, int(a.g.height), int(a.g.width));
  const int on_map = c.valid[0] | c.valid[1] << 1 | c.valid[2] << 2 | c.valid[3] << 3;
  const float poison = s.nan ? NAN : 0;
  r.weight = {s.ly + poison, s.lx + poison, mask, __int_as_float(on_map)};
  return r;
}

// What SampleAddress::weight holds: weights of the corners, or what make_slope_address writes.
enum class SampleKind { kWeights, kSlopes };

template <SampleKind kKind>
__device__ __forceinline__ SampleAddress consume_address(const ConvArgs& a, const Source& source,
                                                         const SampleId& id, const RawSample& raw) {
  if (!id.valid) return {source.zeros, 0, 0, {0, 0, 0, 0}};
  float mask;
  const Sample<float> sample = consume_sample(a, id, raw, mask);
  return kKind == SampleKind::kWeights ? make_address(a, source, id.pixel.n, sample, mask)
                                       : make_slope_address(a, source, id.pixel.n, sample, mask);
}
template <SampleKind kKind>
__device__ __forceinline__ SampleAddress load_address(const ConvArgs& a, const Source& source,
                                                      const SampleId& id) {
  return consume_address<kKind>(a, source, id, prefetch_sample(a, id));
}

// Sample addresses of a tile's rows for several slots: taps of the same pixels, or the next pixels.
template <SampleKind kKind, int kRows, int kSlots = kTableTaps>
struct AddressTable {
  int4 addresses[kSlots * kRows];  // at (two words), right, down
  float4 weights[kSlots * kRows];

  // where(slot, row): the sample of an entry.
  template <int kThreads, class Where>
  __device__ void fill(const ConvArgs& a, const Source& source, int slots, int thread,
                       Where where) {
    constexpr int kBatch = 2;
    for (int begin = thread; begin < slots * kRows; begin += kBatch * kThreads) {
      SampleId id[kBatch] = {};
      RawSample raw[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int entry = begin + i * kThreads;
        if (entry < slots * kRows) id[i] = where(entry / kRows, entry % kRows);
        raw[i] = prefetch_sample(a, id[i]);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int entry = begin + i * kThreads;
        if (entry < slots * kRows) put(entry, consume_address<kKind>(a, source, id[i], raw[i]));
      }
    }
  }
  __device__ void put(int entry, const SampleAddress& r) {
    const uint64_t at = reinterpret_cast<uint64_t>(r.at);
    addresses[entry] = {int(uint32_t(at)), int(uint32_t(at >> 32)), r.right, r.down};
    weights[entry] = r.weight;
  }

  // An entry, by the table's address in shared memory.
  static __device__ SampleAddress at(uint32_t table, int slot, int row) {
    const uint32_t at = table + (slot * kRows + row) * int(sizeof(int4));
    const uint4 p = load_shared(at), w = load_shared(at + int(sizeof(addresses)));
    const uint64_t to = uint64_t(p.y) << 32 | p.x;
    return {
        reinterpret_cast<const char*>(to),
        int(p.z),
        int(p.w),
        {__uint_as_float(w.x), __uint_as_float(w.y), __uint_as_float(w.z), __uint_as_float(w.w)}};
  }
  __device__ SampleAddress at(int slot, int row) const {
    const int4 p = addresses[slot * kRows + row];
    const uint64_t at = uint64_t(uint32_t(p.y)) << 32 | uint32_t(p.x);
    return {reinterpret_cast<const char*>(at), p.z, p.w, weight(slot, row)};
  }
  __device__ float4 weight(int slot, int row) const { return weights[slot * kRows + row]; }
};

}  // namespace dcnv2::cuda
