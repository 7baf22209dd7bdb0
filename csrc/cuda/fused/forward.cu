// SPDX-License-Identifier: BSD-3-Clause
// The forward as one implicit matrix product: half of a block's warps sample straight into shared
// memory, the other half multiply. No columns in global memory.
#include "../common.cuh"
#include "choice.cuh"
#include "pack_weight.cuh"
#include "ring.cuh"
#include "sampler.cuh"
#include "wgmma.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kFillBarrier = 1, kMultiplyBarrier = 2;

struct ForwardArgs {
  ConvArgs conv;
  PackedWeight packed;
  const char* weight;  // packed
  const char* zeros;   // [in_channels]
  int pixels, pixel_tiles, col_tiles;

  __device__ int tiles() const { return pixel_tiles * col_tiles * packed.groups; }
};

// One tile of the output: its first pixel, its first column within its weight group.
struct OutTile {
  int row0, col0, group;
};
template <class M>
__device__ __forceinline__ OutTile out_tile(const ForwardArgs& f, int tile) {
  // Tiles of the same pixels run side by side, so that they find the input in the L2 cache.
  const int across = f.col_tiles * f.packed.groups;
  return {tile / across * M::kTileRows, tile % f.col_tiles * M::kTileCols,
          tile % across / f.col_tiles};
}

template <class M>
struct Shared {
  using Multiply = M;
  static constexpr int kRows = M::kTileRows, kCols = M::kTileCols;
  // As many as the least chip that runs the tile has room for.
  static constexpr int kStages = M::kFillThreads > 256 ? 4 : kCols == 64 ? 2 : 3;

  char a[kStages][kRows * kRowBytes];
  char b[kStages][kCols * kRowBytes];
  ReadingTable<Want::kWeights, kRows> table;
  RowPixels<kRows> fill_rows, multiply_rows;  // each side has its own: they work on different tiles
  Barrier full[kStages], empty[kStages];
};

// Fills one step after the other: the samples of a thread's rows at its chunk. While the corners of
// some of its rows are added up, those of others are on their way.
template <class M>
struct Filler {
  using T = typename M::element;
  static constexpr int kRowStep = M::kFillThreads / kChunks, kItems = M::kTileRows / kRowStep;
  static constexpr int kFirst = kItems / 2, kSecond = kItems - kFirst;

  Shared<M>& shared;
  int thread, row0, slot;  // the first of the thread's rows; where its chunk goes in a slab
  RingPosition<Shared<M>::kStages> at;
  Corners4<kSecond> second;     // on its way from one step to the next,
  Barrier* pending = nullptr;   // to fill the stage of this barrier
  char* pending_slab = nullptr;

  __device__ Filler(Shared<M>& shared, int thread)
      : shared(shared),
        thread(thread),
        row0(thread / kChunks),
        slot(chunk_offset(row0, thread % kChunks)) {}

  // reading(row): of this thread's chunk; tile: the step's share of the weight.
  template <class GetReading>
  __device__ void step(GetReading reading, const char* tile) {
    Corners4<kFirst> first;
    Corners4<kSecond> next;
    first.load(row0, kRowStep, reading);
    if (kFirst == 0) next.load(row0, kRowStep, reading);
    finish_pending();
    shared.empty[at.stage].wait(at.parity ^ 1);
    if (thread < 32) copy_tile(shared.b[at.stage], tile, sizeof(shared.b[0]), shared.full[at.stage]);
    char* slab = shared.a[at.stage] + slot;
    if (kFirst > 0) {
      next.load(row0 + kFirst * kRowStep, kRowStep, reading);
      first.template store<T>(slab, kRowStep * kRowBytes);
    }
    second = next;
    pending = &shared.full[at.stage];
    pending_slab = slab + kFirst * kRowStep * kRowBytes;
    at.advance();
  }
  __device__ void finish_pending() {
    if (pending == nullptr) return;
    second.template store<T>(pending_slab, kRowStep * kRowBytes);
    arrive_warp(*pending);
    pending = nullptr;
  }
};

template <class M, bool kShareReadings>
__device__ void fill(const ForwardArgs& f, Shared<M>& shared, int thread) {
  using T = typename M::element;
  constexpr int kFillThreads = M::kFillThreads;
  const ConvArgs& a = f.conv;
  const Source source = make_source<T>(a, f.zeros);
  const int taps = f.packed.taps, depth = f.packed.depth, slabs = f.packed.slabs;
  const int deform_channels = int(a.g.deform_channels());
  Filler<M> filler(shared, thread);
  const int chunk_channel = thread % kChunks * kVector<T>;
  for (int t = blockIdx.x; t < f.tiles(); t += gridDim.x) {
    const OutTile tile = out_tile<M>(f, t);
    const int first = tile.group * depth;       // input channel
    named_barrier(kFillBarrier, kFillThreads);  // nobody reads the old rows and table
    shared.fill_rows.fill(tile.row0, f.pixels, int(a.g.out_height), int(a.g.out_width), thread,
                          kFillThreads);
    named_barrier(kFillBarrier, kFillThreads);

    // The slabs of a deform group at a time, and as many taps as the table holds
    for (int begin = 0, end = slabs; begin < slabs; begin = end) {
      const int deform_group = (first + begin * kSlab<T>) / deform_channels;
      if (kShareReadings) {
        const int rest = (deform_group + 1) * deform_channels - first;
        end = min(slabs, int(ceil_div(rest, kSlab<T>)));
      }
      const int most_taps = kShareReadings ? kTableTaps : taps;
      for (int tap0 = 0; tap0 < taps; tap0 += most_taps) {
        const int turn = min(most_taps, taps - tap0);
        if (kShareReadings) {
          named_barrier(kFillBarrier, kFillThreads);  // nobody reads the old table
          shared.table.template fill<kFillThreads>(
              a, source, turn, thread, [&](int tap, int row) -> Place {
                return {shared.fill_rows.pixel(row), tap0 + tap, deform_group,
                        shared.fill_rows.exists(row)};
              });
          named_barrier(kFillBarrier, kFillThreads);
        }
        for (int slab = begin; slab < end; ++slab) {
          const int within = slab * kSlab<T> + chunk_channel;  // of the weight group
          const bool wanted = within < depth;
          const int64_t byte = wanted ? int64_t(first + within) * int(sizeof(T)) : 0;
          const char* weight = f.weight + f.packed.tile(tile.group, slab * taps + tap0, tile.col0);
          for (int tap = 0; tap < turn; ++tap, weight += f.packed.step_bytes()) {
            filler.step(
                [&](int row) {
                  Reading r;
                  if constexpr (kShareReadings) {
                    r = shared.table.reading(tap, row);
                    if (!wanted) r = {source.zeros, 0, 0, r.weight};
                  } else {
                    const Place place[1] = {{shared.fill_rows.pixel(row), tap0 + tap,
                                             (first + within) / deform_channels,
                                             wanted && shared.fill_rows.exists(row)}};
                    Reading one[1];
                    load_readings<Want::kWeights>(a, source, place, one);
                    r = one[0];
                  }
                  r.at += byte;
                  return r;
                },
                weight);
          }
        }
      }
    }
    filler.finish_pending();
  }
}

template <class M>
__device__ void multiply(const ForwardArgs& f, Shared<M>& shared) {
  using T = typename M::element;
  const ConvGeometry& g = f.conv.g;
  const int thread = threadIdx.x, height = int(g.out_height), width = int(g.out_width);
  const T* bias = static_cast<const T*>(f.conv.bias);
  T* output = static_cast<T*>(f.conv.output);
  M product;
  RingPosition<Shared<M>::kStages> at;
  for (int t = blockIdx.x; t < f.tiles(); t += gridDim.x) {
    const OutTile tile = out_tile<M>(f, t);
    named_barrier(kMultiplyBarrier, M::kThreads);  // the last tile is stored
    shared.multiply_rows.fill(tile.row0, f.pixels, height, width, thread, M::kThreads);
    named_barrier(kMultiplyBarrier, M::kThreads);

    product.clear();
    for (int step = 0; step < f.packed.steps(); ++step) {
      shared.full[at.stage].wait(at.parity);
      product.multiply(shared.a[at.stage], shared.b[at.stage], thread);
      __syncwarp();
      if (thread % 32 == 0) shared.empty[at.stage].arrive();
      at.advance();
    }

#pragma unroll
    for (int i = 0; i < M::kThreadRows; ++i) {
      const int row = M::row(thread, i);
      if (!shared.multiply_rows.exists(row)) continue;
      const Pixel p = shared.multiply_rows.pixel(row);
      T* pixel = output + ((int64_t(p.n) * height + p.y) * width + p.x) * g.out_channels;
#pragma unroll
      for (int j = 0; j < M::kThreadPairs; ++j) {
        const int within = tile.col0 + M::column(thread) + 8 * j;
        if (within >= f.packed.cols) break;
        const int channel = tile.group * f.packed.cols + within;
        float2 v = product.pair(i, j);
        if (bias != nullptr) {
          v.x += widen(bias[channel * f.conv.bias_stride]);
          v.y += widen(bias[(channel + 1) * f.conv.bias_stride]);
        }
        store_pair(pixel + channel, v.x, v.y);
      }
    }
  }
}

template <class M, bool kShareReadings>
__global__ void __launch_bounds__(M::kThreads + M::kFillThreads, 1)
    forward_kernel(__grid_constant__ const ForwardArgs f) {
  if constexpr (M::kHere) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<Shared<M>*>(raw);
    init_ring(shared.full, shared.empty, M::kFillThreads / 32, M::kThreads / 32);
    if (threadIdx.x < M::kThreads) {
      M::take_registers();
      multiply<M>(f, shared);
    } else {
      M::give_registers();
      fill<M, kShareReadings>(f, shared, threadIdx.x - M::kThreads);
    }
  }
}

template <class M>
void launch(const ConvArgs& a, const PackedWeight& packed, void* workspace, cudaStream_t stream) {
  launch_pack_weight(a, packed, workspace, stream);
  const int pixels = int(a.g.out_pixels());
  const char* weight = static_cast<const char*>(workspace);
  const ForwardArgs f{a,
                      packed,
                      weight,
                      weight + packed.count() * sizeof(typename M::element),
                      pixels,
                      int(ceil_div(pixels, M::kTileRows)),
                      packed.padded_cols / M::kTileCols};
  auto* kernel = forward_kernel<M, true>;
  if constexpr (M::kTileCols == 64) {
    if (!rows_share_readings(a.g, packed.slab)) kernel = forward_kernel<M, false>;
  }
  launch_persistent(kernel, f, f.pixel_tiles * f.col_tiles * packed.groups,
                    M::kThreads + M::kFillThreads, sizeof(Shared<M>), stream);
  check(cudaGetLastError(), "fused forward");
}

int forward_cols(const ConvArgs& a, Path path) {
  const int slab = a.dtype == Dtype::kFloat32 ? kSlab<float> : kSlab<__half>;
  return tile_cols(path, a.g.group_out(), rows_share_readings(a.g, slab));
}

}  // namespace

size_t fused_forward_workspace(const ConvArgs& a, Path path) {
  const int64_t elements = forward_weight(a, forward_cols(a, path)).count() + a.g.in_channels;
  return elements * element_size(a.dtype);
}

void launch_fused_forward(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream) {
  const int cols = forward_cols(a, path);
  const PackedWeight packed = forward_weight(a, cols);
  dispatch_product(a, path, cols, [&](auto product) {
    launch<typename decltype(product)::type>(a, packed, workspace, stream);
  });
}

}  // namespace dcnv2::cuda
