// SPDX-License-Identifier: BSD-3-Clause
// What grad_offset_mask.cu's warps share, and those of them that take the dot products of samples'
// gradients with the samples' corners.
#pragma once

#include "choice.cuh"
#include "columns.cuh"
#include "ring.cuh"
#include "sampler.cuh"

namespace dcnv2::cuda {

constexpr int kFillBarrier = 1, kShareBarrier = 2;  // of all who take dot products; of a row's

struct GradOffsetArgs {
  ConvArgs conv;
  PackedWeight packed;
  const char* weight;
  const char* zeros;  // [in_channels]
  void* columns;      // [pixels, taps, in_channels] gradients of the samples, or null
  int first_image;    // of the run of images that is taken
  int pixels;         // of the run
  int out_slabs;         // of output channels
  int tiles_a_group;     // channel tiles of one deform group; of all where groups share tiles
  int groups;            // deform groups taken one after the other; 1 where they share tiles
};

// So many rows are the share of so many warps, where dot products are taken by tensor cores.
constexpr int kDotRows = 8;
template <class M>
constexpr int kDotShares = M::kFillThreads / 32 / (M::kTileRows / kDotRows);

template <class M>
struct Shared {
  using T = typename M::element;
  static constexpr int kRows = M::kTileRows, kCols = M::kTileCols;
  static constexpr int kStages = M::kFillThreads > 256 ? 3 : 2;  // as many as there is room for
  static_assert(kCols == 2 * kSlab<T>);

  char weight[kStages][kCols * kRowBytes];  // of one tap, channel tile and slab of outputs
  char column[2][2 * kRows * kRowBytes];    // gradients of the samples of a tile, in turn
  ReadingTable<Want::kSlopes, kRows> table;
  float4 share[2][kDotShares<M>][kRows];    // of a row's dot products, by the warps that share it
  RowPixels<kRows> rows;
  Barrier full[kStages], empty[kStages];  // of weight
  Barrier column_full[2], column_empty[2], grad_full;
};

// Behind that in shared memory, slab by slab: grad_output of the block's pixels.
template <class M>
constexpr int kGradSlabBytes = M::kTileRows * kRowBytes;
template <class M>
constexpr int kGradAt = int(ceil_div(sizeof(Shared<M>), kTileAlignment)) * kTileAlignment;
template <class M>
__device__ __forceinline__ char* grad_slab(Shared<M>& shared, int slab) {
  return reinterpret_cast<char*>(&shared) + kGradAt<M> + slab * kGradSlabBytes<M>;
}
template <class M>
size_t shared_bytes(int out_slabs) {
  return kGradAt<M> + out_slabs * kGradSlabBytes<M>;
}

// Byte offset of a chunk of a row of a tile's columns: as in slab.cuh, but for four neighbouring chunks of
// two neighbouring rows to lie apart, as they are written and read.
template <int kRows>
__device__ __forceinline__ int column_offset(int row, int chunk) {
  return chunk / kChunks * (kRows * kRowBytes) + row * kRowBytes +
         ((chunk % kChunks ^ (row << 2 & 4) ^ (row >> 1 & 3)) << 4);
}

// Adds the products of two chunks to a sum.
template <class T>
__device__ __forceinline__ float dot_chunk(const float (&a)[kVector<T>], const uint4& b, float sum) {
  float v[kVector<T>] = {};
  add_chunk(b, 1.0f, v, T{});
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) sum += a[i] * v[i];
  return sum;
}

// The pixels of a run of images, as if it were the whole batch: with their place in it.
template <int kRows>
__device__ __forceinline__ Pixel run_pixel(const GradOffsetArgs& f, const RowPixels<kRows>& rows,
                                           int row) {
  Pixel p = rows.pixel(row);
  p.n += f.first_image;
  return p;
}

// Writes the gradients of a sample from the dot products of the gradient of its value with its corners;
// `w`: as make_slope_reading has it.
__device__ __forceinline__ void write_gradients(const GradOffsetArgs& f, const Pixel& p, int channel,
                                                const float4& w, const float (&dots)[4]) {
  const ConvArgs& a = f.conv;
  Sample<float> s{};
  s.ly = w.x;
  s.lx = w.y;
  const int on_map = __float_as_int(w.w);
  float sums[4];
  for (int corner = 0; corner < 4; ++corner) sums[corner] = on_map >> corner & 1 ? dots[corner] : 0;
  if (a.grad_offset.data != nullptr) {
    const View4& to = a.grad_offset;
    const int64_t at = to.index(p.n, 2 * channel, p.y, p.x);
    store_as<float>(to.data, to.dtype, at, w.z * slope_y(s, sums));
    store_as<float>(to.data, to.dtype, at + to.stride_c, w.z * slope_x(s, sums));
  }
  if (a.grad_mask.data != nullptr) {
    const View4& to = a.grad_mask;
    store_as<float>(to.data, to.dtype, to.index(p.n, channel, p.y, p.x), interpolate(s, sums));
  }
}

// Stores a chunk of the columns: of a row that exists, at a tap.
template <class T, int kRows>
__device__ __forceinline__ void store_column(const GradOffsetArgs& f, const RowPixels<kRows>& rows,
                                             int row, int tap, int channel, const uint4& chunk) {
  const Pixel p = rows.pixel(row);
  const int pixel = (p.n * int(f.conv.g.out_height) + p.y) * int(f.conv.g.out_width) + p.x;
  T* to = static_cast<T*>(f.columns) +
          (int64_t(pixel) * f.packed.taps + tap) * f.conv.g.in_channels + channel;
  *reinterpret_cast<uint4*>(to) = chunk;
}

// The threads that take dot products: each has a chunk of some rows, as in sampling.
template <class M, bool kShareReadings>
struct Dotter {
  using T = typename M::element;
  static constexpr int kRows = M::kTileRows, kRowStep = M::kFillThreads / kChunks;
  static constexpr int kItems = kRows / kRowStep;
  static_assert(kItems == 1 || kItems == 2);

  const GradOffsetArgs& f;
  Shared<M>& shared;
  const Source source;
  const int thread, chunk, row0;
  float dot[kItems][4] = {};

  // One sample at one slab of a tile, on its way.
  struct Item {
    Corners4<1> corners;
    int group = 0, tap = 0, tile = 0, channel = 0;
    bool active = false;
  };
  Item even, odd;

  __device__ Dotter(const GradOffsetArgs& f, Shared<M>& shared, int thread)
      : f(f),
        shared(shared),
        source(make_source<T>(f.conv, f.zeros)),
        thread(thread),
        chunk(thread % kChunks),
        row0(thread / kChunks) {}

  // The items of a tile, slab by slab; while one is on its way, the one before it is finished.
  __device__ void take_tile(int group, int tap, int channel, int tile, bool) {
    if constexpr (kItems == 2) {
      load(even, 0, group, tap, channel, tile);
      finish<1, 1>(odd, odd.tap != tap || odd.group != group);
      load(odd, 1, group, tap, channel, tile);
      finish<0, 0>(even, false);
      load(even, 0, group, tap, channel + kSlab<T>, tile);
      finish<0, 1>(odd, false);
      load(odd, 1, group, tap, channel + kSlab<T>, tile);
      finish<1, 0>(even, false);
    } else {
      load(even, 0, group, tap, channel, tile);
      finish<1, 0>(odd, odd.tap != tap || odd.group != group);
      load(odd, 0, group, tap, channel + kSlab<T>, tile);
      finish<0, 0>(even, false);
    }
  }
  __device__ void finish_tiles() { finish<1, kItems - 1>(odd, true); }

  __device__ void load(Item& item, int index, int group, int tap, int slab_channel, int tile) {
    const ConvArgs& a = f.conv;
    const int channel = slab_channel + chunk * kVector<T>;
    const bool wanted = channel < int(a.g.in_channels);
    if (!kShareReadings) group = wanted ? channel / int(a.g.deform_channels()) : -1;
    item.corners.load(row0 + index * kRowStep, 0, [&](int row) {
      Reading r;
      if constexpr (kShareReadings) {
        r = shared.table.reading(tap % kTableTaps, row);
        if (!wanted) r = {source.zeros, 0, 0, r.weight};
      } else {
        const Place place[1] = {{run_pixel(f, shared.rows, row), tap, group,
                                 wanted && shared.rows.exists(row)}};
        Reading one[1];
        load_readings<Want::kSlopes>(a, source, place, one);
        r = one[0];
      }
      if (wanted) r.at += channel * int(sizeof(T));
      return r;
    });
    item.group = group;
    item.channel = wanted ? channel : -1;
    item.tap = tap;
    item.tile = tile;
    item.active = true;
  }

  // Takes the dot products of an item; `last`: of its tap and deform group.
  template <int kSlabIndex, int kIndex>
  __device__ void finish(Item& item, bool last) {
    if (!item.active) return;
    item.active = false;
    const int buffer = item.tile % 2;
    if (kSlabIndex == 0 && kIndex == 0) shared.column_full[buffer].wait(item.tile / 2 & 1);
    const int row = row0 + kIndex * kRowStep;
    const uint4 chunk_of_column = *reinterpret_cast<const uint4*>(
        shared.column[buffer] + column_offset<kRows>(row, kSlabIndex * kChunks + chunk));
    if (f.columns != nullptr && item.channel >= 0 && shared.rows.exists(row)) {
      store_column<T>(f, shared.rows, row, item.tap, item.channel, chunk_of_column);
    }
    float grad[kVector<T>] = {};
    add_chunk(chunk_of_column, 1.0f, grad, T{});
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      dot[kIndex][corner] = dot_chunk<T>(grad, item.corners.value[0][corner], dot[kIndex][corner]);
    }
    if (kSlabIndex == 1 && kIndex == kItems - 1) {
      __syncwarp();
      if (thread % 32 == 0) shared.column_empty[buffer].arrive();
    }
    if constexpr (!kShareReadings) {
      write(kIndex, item.corners.weight[0], item.group, item.tap,
            int(f.conv.g.deform_channels()) / kVector<T>);
    } else if (last) {
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        const float4 w = shared.table.weight(item.tap % kTableTaps, row0 + i * kRowStep);
        write(i, w, item.group, item.tap, kChunks);
      }
    }
  }

  // Sums over the lanes that share a deform group, and writes its gradients.
  __device__ __forceinline__ void write(int i, const float4& w, int group, int tap, int lanes) {
    float sums[4];
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      float v = dot[i][corner];
      dot[i][corner] = 0;
      for (int step = 1; step < lanes; step *= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
      sums[corner] = v;
    }
    const int row = row0 + i * kRowStep;
    if (chunk % lanes != 0 || group < 0 || !shared.rows.exists(row)) return;
    write_gradients(f, run_pixel(f, shared.rows, row), group * f.packed.taps + tap, w, sums);
  }
};

// The same for halves whose channels of a tile share a deform group, by tensor cores. A warp loads a slab
// of four rows at a time as sampling does, eight lanes a row; the product takes these as eight rows of four
// lanes each, a half of a row of ours. With A their gradients and B the same corner of each, the wanted dot
// products are the diagonal of A * B^T. Of the product's 16 x 8 results, eight rows at a time are wanted at
// all: the other rows of A are zero, so that four rows and the next four add to the same sums. The order of
// the channels within a product is free, so that both operands are loaded by chunks as they lie.
template <class M>
struct TensorDotter {
  using T = typename M::element;
  static constexpr int kRows = M::kTileRows, kGroups = kRows / kDotRows, kShares = kDotShares<M>;
  static constexpr int kSlabs = M::kTileCols / kSlab<T>;

  const GradOffsetArgs& f;
  Shared<M>& shared;
  const Source source;
  const int lane, group_of_rows, part;
  const int row, chunk;  // the first of this lane's two rows; its chunk of a slab
  int turn = 0;          // counts the sums that are shared
  float dot[4][4] = {};  // of each corner

  __device__ TensorDotter(const GradOffsetArgs& f, Shared<M>& shared, int thread)
      : f(f),
        shared(shared),
        source(make_source<T>(f.conv, f.zeros)),
        lane(thread % 32),
        group_of_rows(thread / 32 % kGroups),
        part(thread / 32 / kGroups),
        row(group_of_rows * kDotRows + lane / kChunks),
        chunk(lane % kChunks) {}

  // `last`: of its tap and deform group.
  __device__ void take_tile(int group, int tap, int tile_channel, int tile, bool last) {
    const int buffer = tile % 2;
    bool waited = false;
#pragma unroll 1
    for (int slab = part; slab < kSlabs; slab += kShares) {
      const int channel = tile_channel + slab * kSlab<T> + chunk * kVector<T>;
      const bool wanted = channel < int(f.conv.g.in_channels);
      Corners4<2> corners;
      corners.load(row, kDotRows / 2, [&](int r) {
        Reading reading = shared.table.reading(tap % kTableTaps, r);
        if (!wanted) return Reading{source.zeros, 0, 0, reading.weight};
        reading.at += channel * int(sizeof(T));
        return reading;
      });
      if (!waited) shared.column_full[buffer].wait(tile / 2 & 1);
      waited = true;
      uint4 grads[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int r = row + i * (kDotRows / 2);
        grads[i] = *reinterpret_cast<const uint4*>(shared.column[buffer] +
                                                   column_offset<kRows>(r, slab * kChunks + chunk));
        if (f.columns != nullptr && wanted && shared.rows.exists(r)) {
          store_column<T>(f, shared.rows, r, tap, channel, grads[i]);
        }
      }
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        const uint4 &upper = corners.value[0][corner], &lower = corners.value[1][corner];
        multiply_halves(dot[corner], {grads[0].x, 0, grads[0].y, 0}, {upper.x, upper.y}, T{});
        multiply_halves(dot[corner], {grads[0].z, 0, grads[0].w, 0}, {upper.z, upper.w}, T{});
        multiply_halves(dot[corner], {0, grads[1].x, 0, grads[1].y}, {lower.x, lower.y}, T{});
        multiply_halves(dot[corner], {0, grads[1].z, 0, grads[1].w}, {lower.z, lower.w}, T{});
      }
    }
    if (!waited) shared.column_full[buffer].wait(tile / 2 & 1);
    __syncwarp();
    if (lane == 0) shared.column_empty[buffer].arrive();
    if (last) finish(group, tap);
  }
  __device__ void finish_tiles() {}

  // Lane 4 g + g / 2 has the diagonal's entries at g: of half g % 2 of row g / 2, and of the row four further.
  __device__ void finish(int group, int tap) {
    auto& share = shared.share[turn++ % 2];
    const bool second_half = lane / 4 % 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sums[4];
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        float(&d)[4] = dot[corner];
        const float mine = second_half ? d[2 * i + 1] : d[2 * i];
        sums[corner] = mine + __shfl_xor_sync(0xffffffffu, mine, 4);
        d[2 * i] = d[2 * i + 1] = 0;
      }
      if (lane % 4 == lane / 8 && !second_half) {
        share[part][row + i * (kDotRows / 2)] = {sums[0], sums[1], sums[2], sums[3]};
      }
    }
    // Two buffers: who writes one again has met those who read it at the barrier of the other.
    if constexpr (kShares == 1) {
      __syncwarp();
    } else {
      named_barrier(kShareBarrier + group_of_rows, 32 * kShares);
    }
    const int mine = group_of_rows * kDotRows + lane;
    if (part != 0 || lane >= kDotRows || !shared.rows.exists(mine)) return;
    float sums[4] = {};
    for (int i = 0; i < kShares; ++i) {
      const float4 v = share[i][mine];
      sums[0] += v.x;
      sums[1] += v.y;
      sums[2] += v.z;
      sums[3] += v.w;
    }
    write_gradients(f, run_pixel(f, shared.rows, mine), group * f.packed.taps + tap,
                    shared.table.weight(tap % kTableTaps, mine), sums);
  }
};

// Who takes the dot products.
template <class M, bool kShareReadings>
using Dots = std::conditional_t<kShareReadings && sizeof(typename M::element) == 2, TensorDotter<M>,
                                Dotter<M, kShareReadings>>;

}  // namespace dcnv2::cuda
