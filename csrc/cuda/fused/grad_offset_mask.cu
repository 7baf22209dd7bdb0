// SPDX-License-Identifier: BSD-3-Clause
// grad_offset and grad_mask in the epilogue of a matrix product. Some warps multiply grad_output by the
// weight of a tap, which gives the gradient of every sample; the other warps take the dot
// products of those with the corners of the sample, sum them over the channels of a deform group, and
// combine them by the derivatives of the interpolation.
#include "choice.cuh"
#include "columns.cuh"
#include "ring.cuh"
#include "sampler.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kFillBarrier = 1;

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

template <class M>
struct Shared {
  using T = typename M::element;
  static constexpr int kRows = M::kTileRows, kCols = M::kTileCols;
  static constexpr int kStages = M::kFillThreads > 256 ? 3 : 2;  // as many as there is room for
  static_assert(kCols == 2 * kSlab<T>);

  char weight[kStages][kCols * kRowBytes];  // of one tap, channel tile and slab of outputs
  char column[2][2 * kRows * kRowBytes];    // gradients of the samples of a tile, in turn
  ReadingTable<Want::kSlopes, kRows> table;
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

// Every (deform group, tap, channel tile) in the order of both sides: visit(group, tap, first channel,
// index of the tile), with turn(group, tap0, taps) before the taps that a table holds.
template <class Turn, class F>
__device__ __forceinline__ void visit_tiles(const GradOffsetArgs& f, int cols, Turn turn, F visit) {
  int index = 0;
  for (int group = 0; group < f.groups; ++group) {
    for (int tap0 = 0; tap0 < f.packed.taps; tap0 += kTableTaps) {
      const int taps = min(kTableTaps, f.packed.taps - tap0);
      turn(group, tap0, taps);
      for (int tap = tap0; tap < tap0 + taps; ++tap) {
        for (int tile = 0; tile < f.tiles_a_group; ++tile) {
          visit(group, tap, (group * f.tiles_a_group + tile) * cols, index++);
        }
      }
    }
  }
}

template <class M>
__device__ void multiply(const GradOffsetArgs& f, Shared<M>& shared) {
  using T = typename M::element;
  using S = Shared<M>;
  const int thread = threadIdx.x;
  const int tiles = f.groups * f.packed.taps * f.tiles_a_group, steps = tiles * f.out_slabs;
  // The next step whose weight is to be asked for: the first warp runs ahead of the products
  int ask = 0;
  auto ask_next = [&] {
    if (thread >= 32 || ask >= steps) return;
    const int slab = ask % f.out_slabs, tile = ask / f.out_slabs;
    const int within = tile % f.tiles_a_group, rest = tile / f.tiles_a_group;
    const int tap = rest % f.packed.taps, group = rest / f.packed.taps;
    const int stage = ask % S::kStages, channel = (group * f.tiles_a_group + within) * S::kCols;
    shared.empty[stage].wait((ask / S::kStages & 1) ^ 1);
    copy_tile_alone(shared.weight[stage],
                    f.weight + f.packed.tile(0, slab * f.packed.taps + tap, channel),
                    sizeof(shared.weight[0]), shared.full[stage]);
    ++ask;
  };
  for (int i = 0; i < S::kStages - 1; ++i) ask_next();

  M product;
  shared.grad_full.wait(0);
  RingPosition<S::kStages> at;
  for (int tile = 0; tile < tiles; ++tile) {
    product.clear();
    for (int slab = 0; slab < f.out_slabs; ++slab) {
      ask_next();
      __syncwarp();
      shared.full[at.stage].wait(at.parity);
      product.multiply(grad_slab(shared, slab), shared.weight[at.stage], thread);
      __syncwarp();
      if (thread % 32 == 0) shared.empty[at.stage].arrive();
      at.advance();
    }
    const int buffer = tile % 2;
    shared.column_empty[buffer].wait((tile / 2 & 1) ^ 1);
#pragma unroll
    for (int i = 0; i < M::kThreadRows; ++i) {
      const int row = M::row(thread, i);
#pragma unroll
      for (int j = 0; j < M::kThreadPairs; ++j) {
        const int col = M::column(thread) + 8 * j, slab = col / kSlab<T>;
        const int chunk = col % kSlab<T> / kVector<T>;
        const float2 v = product.pair(i, j);
        char* to = shared.column[buffer] + slab * S::kRows * kRowBytes + chunk_offset(row, chunk);
        store_pair(reinterpret_cast<T*>(to) + col % kVector<T>, v.x, v.y);
      }
    }
    __syncwarp();
    if (thread % 32 == 0) shared.column_full[buffer].arrive();
  }
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
  __device__ void take_tile(int group, int tap, int channel, int tile) {
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
    const char* column = shared.column[buffer] + kSlabIndex * kRows * kRowBytes;
    const uint4 chunk_of_column =
        *reinterpret_cast<const uint4*>(column + chunk_offset(row0 + kIndex * kRowStep, chunk));
    const int row = row0 + kIndex * kRowStep;
    if (f.columns != nullptr && item.channel >= 0 && shared.rows.exists(row)) {
      const Pixel p = shared.rows.pixel(row);
      const int pixel = (p.n * int(f.conv.g.out_height) + p.y) * int(f.conv.g.out_width) + p.x;
      T* to = static_cast<T*>(f.columns) +
              (int64_t(pixel) * f.packed.taps + item.tap) * f.conv.g.in_channels + item.channel;
      *reinterpret_cast<uint4*>(to) = chunk_of_column;
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
    const ConvArgs& a = f.conv;
    Sample<float> s{};
    s.ly = w.x;
    s.lx = w.y;
    const int on_map = __float_as_int(w.w);
    float sums[4];
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      float v = dot[i][corner];
      dot[i][corner] = 0;
      for (int step = 1; step < lanes; step *= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
      sums[corner] = on_map >> corner & 1 ? v : 0;
    }
    const int row = row0 + i * kRowStep;
    if (chunk % lanes != 0 || group < 0 || !shared.rows.exists(row)) return;
    const Pixel p = run_pixel(f, shared.rows, row);
    const int channel = group * f.packed.taps + tap;
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
};

template <class M, bool kShareReadings>
__device__ void take_dots(const GradOffsetArgs& f, Shared<M>& shared, int thread) {
  using T = typename M::element;
  constexpr int kThreads = M::kFillThreads, kRows = M::kTileRows;
  const ConvArgs& a = f.conv;
  Dotter<M, kShareReadings> dotter(f, shared, thread);
  const int height = int(a.g.out_height), width = int(a.g.out_width), outputs = int(a.g.group_out());
  shared.rows.fill(blockIdx.x * kRows, f.pixels, height, width, thread, kThreads);
  named_barrier(kFillBarrier, kThreads);

  // The block's grad_output
  const T* grad = static_cast<const T*>(a.grad_output);
  for (int row = dotter.row0; row < kRows; row += dotter.kRowStep) {
    const Pixel p = run_pixel(f, shared.rows, row);
    const T* at = grad + ((int64_t(p.n) * height + p.y) * width + p.x) * outputs;
    for (int slab = 0; slab < f.out_slabs; ++slab) {
      const int o = slab * kSlab<T> + dotter.chunk * kVector<T>;
      uint4 v{};
      if (shared.rows.exists(row) && o < outputs) v = load_chunk(reinterpret_cast<const char*>(at + o));
      *reinterpret_cast<uint4*>(grad_slab(shared, slab) + chunk_offset(row, dotter.chunk)) = v;
    }
  }
  arrive_warp(shared.grad_full);

  visit_tiles(
      f, M::kTileCols,
      [&](int group, int tap0, int taps) {
        dotter.finish_tiles();
        if (!kShareReadings) return;
        named_barrier(kFillBarrier, kThreads);  // nobody reads the old table
        shared.table.template fill<kThreads>(
            a, dotter.source, taps, thread, [&](int tap, int row) -> Place {
              return {run_pixel(f, shared.rows, row), tap0 + tap, group, shared.rows.exists(row)};
            });
        named_barrier(kFillBarrier, kThreads);
      },
      [&](int group, int tap, int channel, int tile) {
        dotter.take_tile(group, tap, channel, tile);
      });
  dotter.finish_tiles();
}

template <class M, bool kShareReadings>
__global__ void __launch_bounds__(M::kThreads + M::kFillThreads, 1)
    grad_offset_mask_kernel(__grid_constant__ const GradOffsetArgs f) {
  if constexpr (M::kHere) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<Shared<M>*>(raw);
    constexpr int kMultiplyWarps = M::kThreads / 32, kDotWarps = M::kFillThreads / 32;
    if (threadIdx.x == 0) {
      shared.grad_full.init(kDotWarps);
      for (int i = 0; i < 2; ++i) {
        shared.column_full[i].init(kMultiplyWarps);
        shared.column_empty[i].init(kDotWarps);
      }
    }
    init_ring(shared.full, shared.empty, kCopyArrivals, kMultiplyWarps);
    if (threadIdx.x < M::kThreads) {
      M::take_registers();
      multiply<M>(f, shared);
    } else {
      M::give_registers();
      take_dots<M, kShareReadings>(f, shared, threadIdx.x - M::kThreads);
    }
  }
}

bool one_group_a_tile(const ConvArgs& a) {
  return a.g.deform_groups == 1 || a.g.deform_channels() % column_tile(a.dtype) == 0;
}

int out_slabs(const ConvArgs& a) { return backward_weight(a, column_tile(a.dtype)).slabs; }

// Calls f(Type<M>) for the multiplying warps: of 128 pixels on Hopper where shared memory holds their
// grad_output, else of 64.
template <class F>
void dispatch_columns(const ConvArgs& a, Path path, F f) {
  if (a.dtype == Dtype::kFloat32) {
    a.allow_tf32 ? f(Type<MmaSync<Tf32Product, 64, 64>>{})
                 : f(Type<MmaSync<Float32Product, 64, 64>>{});
    return;
  }
  auto with_type = [&](auto element, auto product) {
    using T = decltype(element);
    if (path == Path::kMma) return f(Type<MmaSync<decltype(product), 64, 128>>{});
    a.g.out_channels <= 256 ? f(Type<Wgmma<T, 128, 128>>{}) : f(Type<Wgmma<T, 64, 128>>{});
  };
  a.dtype == Dtype::kFloat16 ? with_type(__half{}, HalfProduct{})
                             : with_type(__nv_bfloat16{}, BFloat16Product{});
}

template <class M>
void launch(const ConvArgs& a, const Run& run, const void* packed_weight, void* columns,
            cudaStream_t stream) {
  const PackedWeight packed = backward_weight(a, M::kTileCols);
  const bool apart = one_group_a_tile(a);
  const int groups = apart ? int(a.g.deform_groups) : 1;
  const int pixels = int(run.images * a.g.out_height * a.g.out_width);
  const char* weight = static_cast<const char*>(packed_weight);
  const GradOffsetArgs f{a,
                         packed,
                         weight,
                         weight + packed.count() * sizeof(typename M::element),
                         columns,
                         int(run.first),
                         pixels,
                         packed.slabs,
                         int(ceil_div(a.g.in_channels / groups, M::kTileCols)),
                         groups};
  auto* kernel = apart ? grad_offset_mask_kernel<M, true> : grad_offset_mask_kernel<M, false>;
  launch_blocks(kernel, f, int(ceil_div(pixels, M::kTileRows)), M::kThreads + M::kFillThreads,
                shared_bytes<M>(packed.slabs), stream);
  check(cudaGetLastError(), "fused grad_offset_mask");
}

}  // namespace

bool columns_fit(const ConvArgs& a, Path path) {
  const ConvGeometry& g = a.g;
  const int64_t chunks = g.deform_channels() * int64_t(element_size(a.dtype)) / kChunkBytes;
  const bool lanes_fit = chunks == 1 || chunks == 2 || chunks == 4 || chunks == 8;
  if (path == Path::kPlain || g.groups != 1 || !(one_group_a_tile(a) || lanes_fit)) return false;
  bool fits = false;
  dispatch_columns(a, path, [&](auto product) {
    fits = shared_bytes<typename decltype(product)::type>(out_slabs(a)) <= size_t(shared_limit());
  });
  return fits;
}

void launch_columns(const ConvArgs& a, const Run& run, Path path, const void* packed_weight,
                    void* columns, cudaStream_t stream) {
  dispatch_columns(a, path, [&](auto product) {
    launch<typename decltype(product)::type>(a, run, packed_weight, columns, stream);
  });
}

}  // namespace dcnv2::cuda
