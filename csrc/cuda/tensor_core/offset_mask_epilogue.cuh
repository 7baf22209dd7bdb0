// SPDX-License-Identifier: BSD-3-Clause
// What grad_offset_mask.cu's warps share, and those of them that take the dot products of samples'
// gradients with the samples' corners.
#pragma once

#include "cuda/tensor_core/tile_config.cuh"
#include "cuda/tensor_core/columns.cuh"
#include "cuda/tensor_core/mma/pipeline.cuh"
#include "cuda/tensor_core/bilinear_producer.cuh"

namespace dcnv2::cuda {

struct GradOffsetArgs {
  ConvArgs conv;
  PackedWeight packed;
  const char* weight;
  const char* zeros;  // [in_channels]
  char* columns;      // as columns.cuh has them, or null
  int column_bytes;   // of a pixel's tap
  int first_image;    // of the run of images that is taken
  int pixels;         // of the run
  int k_tiles;         // of output channels
  int tiles_per_group;     // channel tiles of one deform group; of all where groups share tiles
  int stages;            // of weight
  int group_shift;  // log2 of the chunks of a deform group, where lanes have samples of their own
  int groups;  // deform groups taken one after the other; 1 where they share tiles
};

// Where the pixels of a tile's rows lie in the views: elements of their first channels, and bytes of their first
// sample in the columns. Lanes that each have a sample of their own need not work it out for every one.
template <int kRows>
struct RowPlaces {
  int64_t offset[kRows], mask[kRows], grad_offset[kRows], grad_mask[kRows], columns[kRows];

  __device__ void fill(const GradOffsetArgs& f, const RowPixels<kRows>& rows, int thread,
                       int threads) {
    const ConvArgs& a = f.conv;
    for (int row = thread; row < kRows; row += threads) {
      if (!rows.exists(row)) continue;
      const Pixel p = rows.pixel(row);
      const int n = p.n + f.first_image;
      offset[row] = a.offset.index(n, 0, p.y, p.x);
      mask[row] = a.mask.index(n, 0, p.y, p.x);
      grad_offset[row] = a.grad_offset.index(n, 0, p.y, p.x);
      grad_mask[row] = a.grad_mask.index(n, 0, p.y, p.x);
      const int pixel = (p.n * int(a.g.out_height) + p.y) * int(a.g.out_width) + p.x;
      columns[row] = int64_t(pixel) * f.packed.taps * f.column_bytes;
    }
  }
};

template <class Product, bool kShare>
struct OffsetMaskSmem {
  using M = Product;
  using T = typename M::element;
  static constexpr bool kShareAddresses =
      kShare;  // whether the lanes of a row have the same sample
  static constexpr int kRows = M::kTileRows, kCols = M::kTileCols;
  static constexpr int kStages = 8;  // at most
  static constexpr int kAtoms = kCols / kRowElements<T>;

  char column[2][kAtoms * kRows * kRowBytes];  // gradients of the samples of a tile, in turn
  std::conditional_t<kShare, AddressTable<SampleKind::kSlopes, kRows>, RowPlaces<kRows>> table;
  RowPixels<kRows> rows;
  Barrier full[kStages], empty[kStages];  // of stages of weight
  Barrier column_full[2], column_empty[2], grad_full;
};

// Behind that in shared memory: grad_output of the block's pixels, slab by slab, and as many stages as there is room
// for, each with the weight of one tap, channel tile and slab of outputs.
template <class M>
constexpr int kGradTileBytes = M::kTileRows * kRowBytes;
template <class M>
constexpr int kStageBytes = M::kSplits * M::kTileCols * kRowBytes;
template <class S>
constexpr int kGradAt = int(ceil_div(sizeof(S), kTileAlignment)) * kTileAlignment;
template <class S>
__device__ __forceinline__ char* grad_tile(S& shared, int atom) {
  return reinterpret_cast<char*>(&shared) + kGradAt<S> + atom * kGradTileBytes<typename S::M>;
}
template <class S>
__device__ __forceinline__ char* weight_stage(S& shared, int k_tiles, int stage) {
  return grad_tile(shared, k_tiles) + stage * kStageBytes<typename S::M>;
}
template <class S>
size_t shared_bytes(int k_tiles, int stages) {
  return kGradAt<S> + k_tiles * kGradTileBytes<typename S::M> + stages * kStageBytes<typename S::M>;
}

// Byte offset of a chunk of a row of a tile's columns: as in smem_layout.cuh, but for four neighbouring chunks of
// two neighbouring rows to lie apart, as they are written and read.
template <int kRows>
__device__ __forceinline__ int column_offset(int row, int vec) {
  return vec / kRowVecs * (kRows * kRowBytes) + row * kRowBytes +
         ((vec % kRowVecs ^ (row << 2 & 4) ^ (row >> 1 & 3)) << 4);
}

// The pixels of a run of images, as if it were the whole batch: with their place in it.
template <int kRows>
__device__ __forceinline__ Pixel batch_pixel(const GradOffsetArgs& f, const RowPixels<kRows>& rows,
                                             int row) {
  Pixel p = rows.pixel(row);
  p.n += f.first_image;
  return p;
}

// A tile of the columns: its deform group (the first of several), tap and first channel, its number in the
// order in which a block takes them, and whether it is the last of its group and tap.
struct ColumnTile {
  int group, tap, channel, index;
  bool last;
};

// The outputs that are a sample's: two channels of grad_offset and one of grad_mask.
enum Output { kGradY, kGradX, kGradMask, kOutputs };

// One of them from the dot products of the gradient of the sample's value with its corners; `w`: as
// make_slope_address has it.
__device__ __forceinline__ float sample_gradient(const float4& w, const float (&dots)[4],
                                                 int output) {
  Sample<float> s{};
  s.ly = w.x;
  s.lx = w.y;
  const int on_map = __float_as_int(w.w);
  float sums[4];
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) sums[corner] = on_map >> corner & 1 ? dots[corner] : 0;
  if (output == kGradMask) return interpolate(s, sums);
  return w.z * (output == kGradY ? slope_y(s, sums) : slope_x(s, sums));
}

// What the gradient of a sample adds to the corners; `w`: as make_slope_address has it.
__device__ __forceinline__ float4 corner_weights(const float4& w) {
  const float ly = w.x, lx = w.y, mask = w.z;
  const int on_map = __float_as_int(w.w);
  return {on_map & 1 ? mask * ((1 - ly) * (1 - lx)) : 0, on_map & 2 ? mask * ((1 - ly) * lx) : 0,
          on_map & 4 ? mask * (ly * (1 - lx)) : 0, on_map & 8 ? mask * (ly * lx) : 0};
}

// The dot products of the gradients of a thread's kItems samples with their corners, by that thread: of its
// chunks alone.
template <class T, int kItems>
struct ThreadDots {
  float sum[kItems][4] = {};

  template <int kItem>
  __device__ void add(const uint4& grad, const uint4 (&corners)[4]) {
    float g[kVecSize<T>], v[kVecSize<T>];
    widen_vec16(grad, g, T{});
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      widen_vec16(corners[corner], v, T{});
#pragma unroll
      for (int i = 0; i < kVecSize<T>; ++i) sum[kItem][corner] += g[i] * v[i];
    }
  }
  // The sums over so many lanes, for each of them; the next ones begin anew.
  __device__ void take(int item, int lanes, float (&sums)[4]) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      sums[corner] = sum[item][corner];
      sum[item][corner] = 0;
    }
    for (int step = 1; step < lanes; step *= 2) {
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        sums[corner] += __shfl_xor_sync(0xffffffffu, sums[corner], step);
      }
    }
  }
};

// The same by tensor cores, where the eight lanes of a row share a deform group. A warp holds a slab of four
// rows; the product takes these as eight rows of four lanes each, a half of a row of ours. With A the
// gradients and B the same corner of each sample, the wanted dot products are the diagonal of A * B^T. Of the
// product's 16 x 8 results eight rows are wanted at a time, the others of A are zero: so that two items have
// room in the same sums. The order of the channels within a product is free, so that both operands are
// chunks as they lie.
template <class T, int kItems>
struct TensorDots {
  static_assert(kItems <= 2);
  float sum[4][4] =
      {};  // [corner]; of row lane / 4, columns lane % 4 * 2 and the next; of 8 rows further

  template <int kItem>
  __device__ void add(const uint4& grad, const uint4 (&corners)[4]) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const uint4& v = corners[corner];
      if constexpr (kItem == 0) {
        mma_m16n8k16(sum[corner], {grad.x, 0, grad.y, 0}, {v.x, v.y}, T{});
        mma_m16n8k16(sum[corner], {grad.z, 0, grad.w, 0}, {v.z, v.w}, T{});
      } else {
        mma_m16n8k16(sum[corner], {0, grad.x, 0, grad.y}, {v.x, v.y}, T{});
        mma_m16n8k16(sum[corner], {0, grad.z, 0, grad.w}, {v.z, v.w}, T{});
      }
    }
  }
  // Lane 4 g + g / 2 has the diagonal's entries at g: of half g % 2 of row g / 2.
  __device__ void take(int item, int, float (&sums)[4]) {
    const int lane = threadIdx.x % 32, first = lane / kRowVecs * 9;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      float (&d)[2] = reinterpret_cast<float (&)[2]>(sum[corner][2 * item]);
      const float mine = lane / 4 % 2 ? d[1] : d[0];
      sums[corner] =
          __shfl_sync(0xffffffffu, mine, first) + __shfl_sync(0xffffffffu, mine, first + 4);
      d[0] = d[1] = 0;
    }
  }
};

// The threads that take dot products: each has a chunk of some rows, as in sampling.
template <class S>
struct OffsetMaskEpilogue {
  using M = typename S::M;
  using T = typename M::element;
  static constexpr bool kShareAddresses = S::kShareAddresses;
  static constexpr int kRows = M::kTileRows, kRowStep = M::kProducerThreads / kRowVecs;
  static constexpr int kItems = kRows / kRowStep, kAtoms = S::kAtoms;
  static_assert(kItems <= 2 && kAtoms <= 2 && kItems * kAtoms > 1);

  const GradOffsetArgs& f;
  S& shared;
  const Source source;
  const int thread, vec, row0;
  const int
      lanes;  // that a deform group has, a power of 2, where it has fewer channels than a slab
  std::conditional_t<kShareAddresses && sizeof(T) == 2, TensorDots<T, kItems>,
                     ThreadDots<T, kItems>>
      dots;

  // One sample at one slab of a tile, on its way.
  using Item = CornerLoads<1>;
  Item even, odd;
  ColumnTile current;  // whose last item may be on its way
  bool active = false;  // whether it is
  RawSample ahead[kAtoms][kItems] = {};  // of the next tile, where lanes have samples of their own

  __device__ OffsetMaskEpilogue(const GradOffsetArgs& f, S& shared, int thread)
      : f(f),
        shared(shared),
        source(make_source<T>(f.conv, f.zeros)),
        thread(thread),
        vec(thread % kRowVecs),
        row0(thread / kRowVecs),
        lanes(1 << f.group_shift) {}

  // Before the first tile, where lanes have samples of their own.
  __device__ void prefetch_first() {
#pragma unroll
    for (int atom = 0; atom < kAtoms; ++atom) {
#pragma unroll
      for (int i = 0; i < kItems; ++i)
        prefetch(ahead[atom][i], ColumnTile{}, atom, row0 + i * kRowStep);
    }
  }

  // The items of a tile, slab by slab; while one is on its way, the one before it is finished.
  __device__ void consume_tile(const ColumnTile& tile) {
    load<0, 0>(even, tile);
    finish_tiles();
    current = tile;
    active = true;
    load<kItems == 1, kItems - 1>(odd, tile);
    finish<0, 0>(even);
    if constexpr (kItems * kAtoms == 4) {
      load<1, 0>(even, tile);
      finish<0, 1>(odd);
      load<1, 1>(odd, tile);
      finish<1, 0>(even);
    }
  }
  __device__ void finish_tiles() {
    if (active) finish<kAtoms - 1, kItems - 1>(odd);
    active = false;
  }

  __device__ int channel_of(const ColumnTile& tile, int atom) const {
    return tile.channel + atom * kRowElements<T> + vec * kVecSize<T>;
  }
  // Of the lane, where they differ; -1 behind the last one.
  __device__ int group_of(const ColumnTile& tile, int channel) const {
    if (kShareAddresses) return tile.group;
    return channel < int(f.conv.g.in_channels) ? channel / kVecSize<T> >> f.group_shift : -1;
  }

  // The tile after one whose group is all that there is.
  __device__ ColumnTile next_tile(ColumnTile tile) const {
    tile.channel += M::kTileCols;
    if (!tile.last) return tile;
    tile.channel = 0;
    ++tile.tap;
    return tile;
  }
  __device__ void prefetch(RawSample& raw, const ColumnTile& tile, int atom, int row) const {
    const int group = group_of(tile, channel_of(tile, atom));
    if (group < 0 || tile.tap == f.packed.taps || !shared.rows.exists(row)) return;
    const auto& at = shared.table;
    raw = prefetch_sample(f.conv, at.offset[row], at.mask[row], group * f.packed.taps + tile.tap);
  }

  template <int kAtom, int kItem>
  __device__ void load(Item& item, const ColumnTile& tile) {
    const ConvArgs& a = f.conv;
    const int channel = channel_of(tile, kAtom);
    const bool valid = channel < int(a.g.in_channels);
    item.load(row0 + kItem * kRowStep, 0, [&](int row) {
      SampleAddress r;
      if constexpr (kShareAddresses) {
        r = shared.table.at(tile.tap % kTableTaps, row);
        if (!valid) r = {source.zeros, 0, 0, r.weight};
      } else {
        r = consume_address<SampleKind::kSlopes>(
            a, source,
            {batch_pixel(f, shared.rows, row), tile.tap, 0, valid && shared.rows.exists(row)},
            ahead[kAtom][kItem]);
      }
      if (valid) r.at += channel * int(sizeof(T));
      return r;
    });
    if constexpr (!kShareAddresses) {
      prefetch(ahead[kAtom][kItem], next_tile(tile), kAtom, row0 + kItem * kRowStep);
    }
  }

  // Takes the dot products of an item of the current tile.
  template <int kAtom, int kItem>
  __device__ void finish(Item& item) {
    const int buffer = current.index % 2, row = row0 + kItem * kRowStep;
    if (kAtom == 0 && kItem == 0) shared.column_full[buffer].wait(current.index / 2 & 1);
    const uint4 column = *reinterpret_cast<const uint4*>(
        shared.column[buffer] + column_offset<kRows>(row, kAtom * kRowVecs + vec));
    if constexpr (kShareAddresses) {
      // Never: where tiles are one group's, columns stay in shared memory (columns_fit). Without this branch ptxas 13.0
      // holds more of the next item in registers, and spills: 17 % slower
      if (f.columns != nullptr) {
        const int channel = channel_of(current, kAtom);
        const bool exists = channel < int(f.conv.g.in_channels) && shared.rows.exists(row);
        if (exists) store(column_at(row, 0, channel), column);
      }
    }
    dots.template add<kItem>(column, item.value[0]);
    constexpr bool kLast = kAtom == kAtoms - 1 && kItem == kItems - 1;
    if (kLast) {
      arrive_for_warp(shared.column_empty[buffer]);
    }
    if constexpr (!kShareAddresses) {
      const int channel = channel_of(current, kAtom), group = group_of(current, channel);
      if (f.columns != nullptr) {
        lanes == 1 ? store_columns(row, channel, column, item.weight[0])
                   : store_column(row, group, channel, column, item.weight[0]);
      }
      write_lanes(kItem, group, item);
    } else if (kLast) {
      if (current.last) write_rows();
    }
  }

  // Writes the gradients of the thread's rows, of which every lane of a row takes one.
  __device__ __forceinline__ void write_rows() {
    const int mine = vec / 4, row = row0 + mine * kRowStep;
    float sums[4];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      float v[4];
      dots.take(i, kRowVecs, v);
      for (int corner = 0; corner < 4; ++corner)
        sums[corner] = i == mine ? v[corner] : sums[corner];
    }
    if (mine >= kItems || vec % 4 >= kOutputs || !shared.rows.exists(row)) return;
    const Pixel p = batch_pixel(f, shared.rows, row);
    const int channel = current.group * f.packed.taps + current.tap;
    const float4 w = shared.table.weight(current.tap % kTableTaps, row);
    if (vec % 4 == kGradMask) {
      if (f.conv.grad_mask.data == nullptr) return;
      const View4& to = f.conv.grad_mask;
      store_narrow(to, to.index(p.n, channel, p.y, p.x), sample_gradient(w, sums, kGradMask));
    } else {
      if (f.conv.grad_offset.data == nullptr) return;
      const View4& to = f.conv.grad_offset;
      store_narrow(to, to.index(p.n, 2 * channel + vec % 4, p.y, p.x),
                   sample_gradient(w, sums, vec % 4));
    }
  }

  // Where a chunk of the columns lies.
  __device__ char* column_at(int row, int group, int channel) const {
    const int within = channel * int(sizeof(T)) + group * int(sizeof(float4));
    if constexpr (!kShareAddresses) {
      return f.columns + shared.table.columns[row] + current.tap * f.column_bytes + within;
    }
    const Pixel p = shared.rows.pixel(row);
    const int pixel = (p.n * int(f.conv.g.out_height) + p.y) * int(f.conv.g.out_width) + p.x;
    return f.columns + (int64_t(pixel) * f.packed.taps + current.tap) * f.column_bytes + within;
  }
  // Stores the lane's chunk of the columns, and the sample's weights behind the last chunk of its group.
  __device__ void store_column(int row, int group, int channel, const uint4& column,
                               const float4& weight) const {
    if (group < 0 || !shared.rows.exists(row)) return;
    char* to = column_at(row, group, channel);
    store(to, column);
    if ((vec & (lanes - 1)) == lanes - 1) {
      store(to + kVec16Bytes, as_chunk(corner_weights(weight)));
    }
  }
  // The same where a chunk is all that a group has: two lanes store what is one's, then what is the other's, whole
  // sectors, which each alone would store by halves. All lanes of a warp take part.
  __device__ void store_columns(int row, int channel, const uint4& column,
                                const float4& weight) const {
    const uint4 weights = as_chunk(corner_weights(weight));
    const bool odd = vec % 2;
    const uint4 given = from_neighbour(either(odd, column, weights));
    const int one = channel / kVecSize<T> - odd;  // the group of the even lane
    if (!shared.rows.exists(row)) return;
    const int groups = int(f.conv.g.deform_groups);
    char* to = column_at(row, one, one * kVecSize<T>) + odd * kVec16Bytes;
    if (one < groups) store(to, either(odd, given, column));
    if (one + 1 < groups) store(to + 2 * kVec16Bytes, either(odd, weights, given));
  }
  static __device__ void store(char* to, const uint4& vec) { *reinterpret_cast<uint4*>(to) = vec; }
  static __device__ uint4 as_chunk(const float4& v) {
    return {__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)};
  }
  // Word by word: of whole ones the compiler chooses among places in local memory.
  static __device__ uint4 either(bool first, const uint4& a, const uint4& b) {
    return {first ? a.x : b.x, first ? a.y : b.y, first ? a.z : b.z, first ? a.w : b.w};
  }
  static __device__ uint4 from_neighbour(const uint4& v) {
    auto take = [](uint32_t word) { return __shfl_xor_sync(0xffffffffu, word, 1); };
    return {take(v.x), take(v.y), take(v.z), take(v.w)};
  }

  // Writes those of a sample whose deform group has the channels of a few lanes.
  __device__ __forceinline__ void write_lanes(int index, int group, const Item& item) {
    const int row = row0 + index * kRowStep;
    float sums[4];
    dots.take(index, lanes, sums);
    if ((vec & (lanes - 1)) != 0 || group < 0 || !shared.rows.exists(row)) return;
    const ConvArgs& a = f.conv;
    const int channel = group * f.packed.taps + current.tap;
    const float4& w = item.weight[0];
    if (a.grad_offset.data != nullptr) {
      const View4& to = a.grad_offset;
      const int64_t at = shared.table.grad_offset[row] + 2 * channel * to.stride_c;
      store_narrow(to, at, sample_gradient(w, sums, kGradY));
      store_narrow(to, at + to.stride_c, sample_gradient(w, sums, kGradX));
    }
    if (a.grad_mask.data != nullptr) {
      const View4& to = a.grad_mask;
      const int64_t at = shared.table.grad_mask[row] + channel * to.stride_c;
      store_narrow(to, at, sample_gradient(w, sums, kGradMask));
    }
  }
};

}  // namespace dcnv2::cuda
