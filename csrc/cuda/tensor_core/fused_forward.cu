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
  OutputMap map;
  const char* zeros;  // [in_channels]
};

template <class M>
struct ForwardSmem {
  using Multiply = M;
  PipelineStorage<M> pipeline;
  AddressTable<SampleKind::kWeights, M::kTileRows> table;
};

template <class M, bool kShareAddresses>
__device__ void producer_warps(const ForwardArgs& f, ForwardSmem<M>& shared, int thread) {
  using T = typename M::element;
  constexpr int kProducerThreads = M::kProducerThreads;
  const ConvArgs& a = f.conv;
  const Source source = make_source<T>(a, f.zeros);
  const PackedWeight& packed = f.grid.packed;
  const int taps = packed.taps, depth = packed.depth, k_tiles = packed.k_tiles;
  const int deform_channels = int(a.g.deform_channels());
  PipelineStorage<M>& pipeline = shared.pipeline;
  constexpr int kRowStep = kProducerThreads / kRowVecs;
  SampleProducer<M, M::kTileRows / kRowStep, kRowStep * kRowBytes, PipelineStorage<M>::kSplitBytes,
                 false>
      producer;
  PipelineState<PipelineStorage<M>::kStages> state;
  using Table = decltype(shared.table);
  const int row0 = thread / kRowVecs;
  const SharedAddresses smem(&shared);
  const uint32_t smem0 = smem(pipeline.a) + swizzled_offset(row0, thread % kRowVecs);
  const uint32_t full = smem(pipeline.full), empty = smem(pipeline.empty),
                 table = smem(&shared.table);
  const int vec_channel = thread % kRowVecs * kVecSize<T>;
  const bool copies = in_first_warp(thread);
  for (int t = blockIdx.x; t < f.grid.tiles(); t += gridDim.x) {
    const OutputTile tile = output_tile_at<M>(f.grid, t);
    const int first = tile.group * depth;  // input channel
    load_tile_pixels(pipeline, f.grid, f.map, tile.row0, thread);

    // The slabs of a deform group at a time, and as many taps as the table holds
    for (int begin = 0, end = k_tiles; begin < k_tiles; begin = end) {
      const int deform_group = (first + begin * kRowElements<T>) / deform_channels;
      if (kShareAddresses) {
        const int rest = (deform_group + 1) * deform_channels - first;
        end = min(k_tiles, int(ceil_div(rest, kRowElements<T>)));
      }
      const int max_taps = kShareAddresses ? kTableTaps : taps;
      for (int tap0 = 0; tap0 < taps; tap0 += max_taps) {
        const int table_taps = min(max_taps, taps - tap0);
        if (kShareAddresses) {
          named_barrier(kProducerBarrier, kProducerThreads);  // nobody reads the old table
          shared.table.template fill<kProducerThreads>(
              a, source, table_taps, thread, [&](int tap, int row) -> SampleId {
                return {pipeline.producer_rows.pixel(row), tap0 + tap, deform_group,
                        pipeline.producer_rows.exists(row)};
              });
          named_barrier(kProducerBarrier, kProducerThreads);
        }
        for (int k_tile = begin; k_tile < end; ++k_tile) {
          const int within = k_tile * kRowElements<T> + vec_channel;  // of the weight group
          const bool valid = within < depth;
          const int64_t byte = valid ? int64_t(first + within) * int(sizeof(T)) : 0;
          const char* weight =
              f.grid.weight + packed.tile(tile.group, k_tile * taps + tap0, tile.col0);
          for (int tap = 0; tap < table_taps; ++tap, weight += packed.step_bytes()) {
            auto address = [&](int row) {
              SampleAddress r;
              if constexpr (kShareAddresses) {
                r = Table::at(table, tap, row);
                if (!valid) r = {source.zeros, 0, 0, r.weight};
              } else {
                r = load_address<SampleKind::kWeights>(
                    a, source,
                    {pipeline.producer_rows.pixel(row), tap0 + tap,
                     (first + within) / deform_channels,
                     valid && pipeline.producer_rows.exists(row)});
              }
              r.at += byte;
              return r;
            };
            producer.step(
                [&](auto& corners, int item) {
                  corners.load(row0 + item * kRowStep, kRowStep, address);
                },
                [&] {
                  Barrier::wait(empty + state.stage * int(sizeof(Barrier)), state.phase ^ 1);
                  if (copies)
                    copy_tile<M>(pipeline.b[state.stage], weight, sizeof(pipeline.b[0]),
                                 pipeline.full[state.stage]);
                },
                smem0 + state.stage * int(sizeof(pipeline.a[0])),
                full + state.stage * int(sizeof(Barrier)));
            state.advance();
          }
        }
      }
    }
    producer.commit_pending();
  }
}

template <class M, bool kShareAddresses>
__global__ void __launch_bounds__(M::kMathThreads + M::kProducerThreads, 1)
    forward_kernel(__grid_constant__ const ForwardArgs f) {
  if constexpr (M::kSupported) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<ForwardSmem<M>*>(raw);
    init_pipeline(shared.pipeline.full, shared.pipeline.empty, M::kProducerThreads / 32 * kArrivals,
                  M::kMathThreads / 32 * kArrivals);
    if (threadIdx.x < M::kMathThreads) {
      M::warpgroup_reg_alloc();
      math_tiles<M>(f.grid, f.map, shared.pipeline);
    } else {
      M::warpgroup_reg_dealloc();
      producer_warps<M, kShareAddresses>(f, shared, threadIdx.x - M::kMathThreads);
    }
  }
}

template <class M, bool kShareAddresses>
void launch(const ConvArgs& a, const PackedWeight& packed, void* workspace, cudaStream_t stream) {
  launch_pack_weight(a, packed, workspace, stream);
  const ForwardArgs f{
      a,
      {packed, workspace, a.g.out_pixels(), M::kTileRows, M::kTileCols},
      {a.output, int(a.g.out_height), int(a.g.out_width), int(a.g.out_channels), a.bias,
       a.bias_stride},
      static_cast<const char*>(workspace) + packed.count() * sizeof(typename M::element)};
  launch_persistent(forward_kernel<M, kShareAddresses>, f, f.grid.tiles(),
                    M::kMathThreads + M::kProducerThreads, sizeof(ForwardSmem<M>), stream);
  check(cudaGetLastError(), "fused forward");
}

bool share_addresses(const ConvArgs& a) {
  return rows_share_addresses(
      a.g, a.dtype == Dtype::kFloat32 ? kRowElements<float> : kRowElements<__half>);
}

int forward_cols(const ConvArgs& a, Path path) {
  return tile_cols(a, path, a.g.group_out(), share_addresses(a));
}

}  // namespace

size_t fused_forward_workspace(const ConvArgs& a, Path path) {
  const PackedWeight packed = forward_weight(a, forward_cols(a, path), operand_form(a, path));
  return (packed.count() + a.g.in_channels) * element_size(a.dtype);
}

void launch_fused_forward(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream) {
  const int cols = forward_cols(a, path);
  const PackedWeight packed = forward_weight(a, cols, operand_form(a, path));
  if (share_addresses(a)) {
    return dispatch_k_major_product<128>(a, path, cols, [&](auto product) {
      launch<typename decltype(product)::type, true>(a, packed, workspace, stream);
    });
  }
  dispatch_k_major_product<64>(a, path, cols, [&](auto product) {  // of 64 columns: see tile_cols
    using M = typename decltype(product)::type;
    if constexpr (M::kTileCols == 64) launch<M, false>(a, packed, workspace, stream);
  });
}

}  // namespace dcnv2::cuda
