// SPDX-License-Identifier: BSD-3-Clause
// The forward as one implicit matrix product: half of a block's warps sample straight into shared
// memory, the other half multiply. No columns in global memory.
#include "cuda/tensor_core/bilinear_producer.cuh"
#include "cuda/tensor_core/tiles.cuh"

namespace dcnv2::cuda {

namespace {

struct ForwardArgs {
  ConvArgs conv;
  TileGrid grid;
  ProductMap map;
  const char* zeros;  // [in_channels]
};

template <class M>
struct Shared {
  using Multiply = M;
  TileRing<M> ring;
  ReadingTable<Want::kWeights, M::kTileRows> table;
};

template <class M, bool kShareReadings>
__device__ void fill(const ForwardArgs& f, Shared<M>& shared, int thread) {
  using T = typename M::element;
  constexpr int kFillThreads = M::kFillThreads;
  const ConvArgs& a = f.conv;
  const Source source = make_source<T>(a, f.zeros);
  const PackedWeight& packed = f.grid.packed;
  const int taps = packed.taps, depth = packed.depth, slabs = packed.slabs;
  const int deform_channels = int(a.g.deform_channels());
  TileRing<M>& ring = shared.ring;
  constexpr int kRowStep = kFillThreads / kChunks;
  SampleFiller<M, M::kTileRows / kRowStep, kRowStep * kRowBytes, TileRing<M>::kPartBytes, false> filler;
  RingPosition<TileRing<M>::kStages> at;
  using Table = decltype(shared.table);
  const int row0 = thread / kChunks;
  const SharedAddresses address(&shared);
  const uint32_t slab0 = address(ring.a) + chunk_offset(row0, thread % kChunks);
  const uint32_t full = address(ring.full), empty = address(ring.empty), table = address(&shared.table);
  const int chunk_channel = thread % kChunks * kVector<T>;
  const bool copies = in_first_warp(thread);
  for (int t = blockIdx.x; t < f.grid.tiles(); t += gridDim.x) {
    const Tile tile = tile_at<M>(f.grid, t);
    const int first = tile.group * depth;  // input channel
    begin_tile(ring, f.grid, f.map, tile.row0, thread);

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
                return {ring.fill_rows.pixel(row), tap0 + tap, deform_group,
                        ring.fill_rows.exists(row)};
              });
          named_barrier(kFillBarrier, kFillThreads);
        }
        for (int slab = begin; slab < end; ++slab) {
          const int within = slab * kSlab<T> + chunk_channel;  // of the weight group
          const bool wanted = within < depth;
          const int64_t byte = wanted ? int64_t(first + within) * int(sizeof(T)) : 0;
          const char* weight = f.grid.weight + packed.tile(tile.group, slab * taps + tap0, tile.col0);
          for (int tap = 0; tap < turn; ++tap, weight += packed.step_bytes()) {
            auto reading = [&](int row) {
              Reading r;
              if constexpr (kShareReadings) {
                r = Table::reading(table, tap, row);
                if (!wanted) r = {source.zeros, 0, 0, r.weight};
              } else {
                r = load_reading<Want::kWeights>(
                    a, source,
                    {ring.fill_rows.pixel(row), tap0 + tap, (first + within) / deform_channels,
                     wanted && ring.fill_rows.exists(row)});
              }
              r.at += byte;
              return r;
            };
            filler.step(
                [&](auto& corners, int item) {
                  corners.load(row0 + item * kRowStep, kRowStep, reading);
                },
                [&] {
                  Barrier::wait(empty + at.stage * int(sizeof(Barrier)), at.parity ^ 1);
                  if (copies) copy_tile<M>(ring.b[at.stage], weight, sizeof(ring.b[0]), ring.full[at.stage]);
                },
                slab0 + at.stage * int(sizeof(ring.a[0])), full + at.stage * int(sizeof(Barrier)));
            at.advance();
          }
        }
      }
    }
    filler.finish_pending();
  }
}

template <class M, bool kShareReadings>
__global__ void __launch_bounds__(M::kThreads + M::kFillThreads, 1)
    forward_kernel(__grid_constant__ const ForwardArgs f) {
  if constexpr (M::kHere) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<Shared<M>*>(raw);
    init_ring(shared.ring.full, shared.ring.empty, M::kFillThreads / 32 * kArrivals,
              M::kThreads / 32 * kArrivals);
    if (threadIdx.x < M::kThreads) {
      M::take_registers();
      multiply_tiles<M>(f.grid, f.map, shared.ring);
    } else {
      M::give_registers();
      fill<M, kShareReadings>(f, shared, threadIdx.x - M::kThreads);
    }
  }
}

template <class M, bool kShareReadings>
void launch(const ConvArgs& a, const PackedWeight& packed, void* workspace, cudaStream_t stream) {
  launch_pack_weight(a, packed, workspace, stream);
  const ForwardArgs f{a,
                      {packed, workspace, a.g.out_pixels(), M::kTileRows, M::kTileCols},
                      {a.output, int(a.g.out_height), int(a.g.out_width), int(a.g.out_channels),
                       a.bias, a.bias_stride},
                      static_cast<const char*>(workspace) +
                          packed.count() * sizeof(typename M::element)};
  launch_persistent(forward_kernel<M, kShareReadings>, f, f.grid.tiles(), M::kThreads + M::kFillThreads,
                    sizeof(Shared<M>), stream);
  check(cudaGetLastError(), "fused forward");
}

bool share_readings(const ConvArgs& a) {
  return rows_share_readings(a.g, a.dtype == Dtype::kFloat32 ? kSlab<float> : kSlab<__half>);
}

int forward_cols(const ConvArgs& a, Path path) {
  return tile_cols(a, path, a.g.group_out(), share_readings(a));
}

}  // namespace

size_t fused_forward_workspace(const ConvArgs& a, Path path) {
  const PackedWeight packed = forward_weight(a, forward_cols(a, path), operand_form(a, path));
  return (packed.count() + a.g.in_channels) * element_size(a.dtype);
}

void launch_fused_forward(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream) {
  const int cols = forward_cols(a, path);
  const PackedWeight packed = forward_weight(a, cols, operand_form(a, path));
  if (share_readings(a)) {
    return dispatch_depth_product<128>(a, path, cols, [&](auto product) {
      launch<typename decltype(product)::type, true>(a, packed, workspace, stream);
    });
  }
  dispatch_depth_product<64>(a, path, cols, [&](auto product) {  // of 64 columns: see tile_cols
    using M = typename decltype(product)::type;
    if constexpr (M::kTileCols == 64) launch<M, false>(a, packed, workspace, stream);
  });
}

}  // namespace dcnv2::cuda
