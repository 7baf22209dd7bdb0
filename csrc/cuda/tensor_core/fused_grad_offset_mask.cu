// SPDX-License-Identifier: BSD-3-Clause
// grad_offset and grad_mask in the epilogue of a matrix product. Some warps multiply grad_output by the
// weight of a tap, which gives the gradient of every sample; the other warps (dots.cuh) take the dot
// products of those with the corners of the sample, sum them over the channels of a deform group, and
// combine them by the derivatives of the interpolation.
#include <bit>

#include "cuda/tensor_core/offset_mask_epilogue.cuh"

namespace dcnv2::cuda {

namespace {

// Every tile, in the order of both sides: visit(tile), with turn(group, tap0, taps) before the taps that a
// table holds.
template <class Turn, class F>
__device__ __forceinline__ void visit_tiles(const GradOffsetArgs& f, int cols, Turn turn, F visit) {
  TileOfColumns at{};
  for (at.group = 0; at.group < f.groups; ++at.group) {
    for (int tap0 = 0; tap0 < f.packed.taps; tap0 += kTableTaps) {
      const int end = min(tap0 + kTableTaps, f.packed.taps);
      turn(at.group, tap0, end - tap0);
      for (at.tap = tap0; at.tap < end; ++at.tap) {
        for (int i = 0; i < f.tiles_a_group; ++i, ++at.index) {
          at.channel = (at.group * f.tiles_a_group + i) * cols;
          at.last = i == f.tiles_a_group - 1;
          visit(at);
        }
      }
    }
  }
}

template <class S>
__device__ void multiply(const GradOffsetArgs& f, S& shared) {
  using M = typename S::M;
  using T = typename M::element;
  const int thread = threadIdx.x;
  const int tiles = f.groups * f.packed.taps * f.tiles_a_group;
  // The next step whose weight is to be asked for: the first warp runs ahead of the products
  int slab = 0, within = 0, tap = 0, group = 0;
  RingPosition<S::kStages> ask_at;
  const bool asks = in_first_warp(thread);
  auto ask_next = [&] {
    if (!asks || group == f.groups) return;
    const int channel = (group * f.tiles_a_group + within) * S::kCols;
    shared.empty[ask_at.stage].wait(ask_at.parity ^ 1);
    copy_tile_alone<M>(weight_stage(shared, f.out_slabs, ask_at.stage),
                    f.weight + f.packed.tile(0, slab * f.packed.taps + tap, channel), kStageBytes<M>,
                    shared.full[ask_at.stage]);
    ask_at.advance(f.stages);
    if (++slab < f.out_slabs) return;
    slab = 0;
    if (++within < f.tiles_a_group) return;
    within = 0;
    if (++tap < f.packed.taps) return;
    tap = 0;
    ++group;
  };
  for (int i = 0; i < f.stages - 1; ++i) ask_next();

  M product;
  shared.grad_full.wait(0);
  M::see_stores();
  RingPosition<S::kStages> at;
  Release<M, S::kStages> release{shared.empty};
  for (int tile = 0; tile < tiles; ++tile) {
    product.clear();
    for (int slab = 0; slab < f.out_slabs; ++slab) {
      shared.full[at.stage].wait(at.parity);
      product.multiply(grad_slab(shared, slab), weight_stage(shared, f.out_slabs, at.stage), thread);
      release.multiplied(at.stage);
      ask_next();  // for the stage that is free by now
      __syncwarp();
      at.advance(f.stages);
    }
    release.finish(product);
    const int buffer = tile % 2;
    shared.column_empty[buffer].wait((tile / 2 & 1) ^ 1);
#pragma unroll
    for (int i = 0; i < M::kThreadRows; ++i) {
      const int row = M::row(thread, i);
#pragma unroll
      for (int j = 0; j < M::kThreadChunks; ++j) {
        const int chunk = M::chunk_column(thread, j) / kVector<T>;
        float v[kVector<T>];
        take_chunk(product, i, j, v);
        *reinterpret_cast<uint4*>(shared.column[buffer] + column_offset<S::kRows>(row, chunk)) =
            make_chunk(v, T{});
      }
    }
    arrive_for_warp(shared.column_full[buffer]);
  }
}

template <class S>
__device__ void take_dots(const GradOffsetArgs& f, S& shared, int thread) {
  using M = typename S::M;
  using T = typename M::element;
  constexpr int kThreads = M::kFillThreads, kRows = M::kTileRows;
  const ConvArgs& a = f.conv;
  Dotter<S> dotter(f, shared, thread);
  constexpr int kRowStep = kThreads / kChunks;
  const int chunk = thread % kChunks;
  const int height = int(a.g.out_height), width = int(a.g.out_width), outputs = int(a.g.group_out());
  shared.rows.fill(blockIdx.x * kRows, f.pixels, height, width, thread, kThreads);
  named_barrier(kFillBarrier, kThreads);
  if constexpr (!S::kShareReadings) {
    shared.table.fill(f, shared.rows, thread, kThreads);
    named_barrier(kFillBarrier, kThreads);
    dotter.ask_first();
  }

  // The block's grad_output
  const T* grad = static_cast<const T*>(a.grad_output);
  for (int row = thread / kChunks; row < kRows; row += kRowStep) {
    const Pixel p = run_pixel(f, shared.rows, row);
    const T* at = grad + ((int64_t(p.n) * height + p.y) * width + p.x) * outputs;
    for (int slab = 0; slab < f.out_slabs; ++slab) {
      const int o = slab * kSlab<T> + chunk * kVector<T>;
      uint4 v{};
      if (shared.rows.exists(row) && o < outputs) v = load_chunk(reinterpret_cast<const char*>(at + o));
      *reinterpret_cast<uint4*>(grad_slab(shared, slab) + chunk_offset(row, chunk)) = v;
    }
  }
  arrive_for_warp(shared.grad_full);

  visit_tiles(
      f, M::kTileCols,
      [&](int group, int tap0, int taps) {
        dotter.finish_tiles();
        if constexpr (S::kShareReadings) {
          named_barrier(kFillBarrier, kThreads);  // nobody reads the old table
          shared.table.template fill<kThreads>(
              a, dotter.source, taps, thread, [&](int tap, int row) -> Place {
                return {run_pixel(f, shared.rows, row), tap0 + tap, group, shared.rows.exists(row)};
              });
          named_barrier(kFillBarrier, kThreads);
        }
      },
      [&](const TileOfColumns& tile) { dotter.take_tile(tile); });
  dotter.finish_tiles();
}

template <class M, bool kShareReadings>
__global__ void __launch_bounds__(M::kThreads + M::kFillThreads, 1)
    grad_offset_mask_kernel(__grid_constant__ const GradOffsetArgs f) {
  if constexpr (M::kHere) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<Shared<M, kShareReadings>*>(raw);
    constexpr int kMultiply = M::kThreads / 32 * kArrivals, kDots = M::kFillThreads / 32 * kArrivals;
    if (threadIdx.x == 0) {
      shared.grad_full.init(kDots);
      for (int i = 0; i < 2; ++i) {
        shared.column_full[i].init(kMultiply);
        shared.column_empty[i].init(kDots);
      }
    }
    init_ring(shared.full, shared.empty, kCopyArrivals<M>, kMultiply);
    if (threadIdx.x < M::kThreads) {
      M::take_registers();
      multiply(f, shared);
    } else {
      M::give_registers();
      take_dots(f, shared, threadIdx.x - M::kThreads);
    }
  }
}

bool one_group_a_tile(const ConvArgs& a, Path path) {
  return a.g.deform_groups == 1 || a.g.deform_channels() % column_tile(a, path) == 0;
}

int64_t deform_chunks(const ConvArgs& a) {
  return a.g.deform_channels() * int64_t(element_size(a.dtype)) / kChunkBytes;
}

// Stages of weight that shared memory has room for; fewer than 2 do not do.
template <class S>
int most_stages(int out_slabs) {
  const int64_t room = shared_limit() - int64_t(shared_bytes<S>(out_slabs, 0));
  return int(std::clamp<int64_t>(room / kStageBytes<typename S::M>, 0, S::kStages));
}

// Whether warpgroups multiply floats: where shared memory holds grad_output and a weight in two parts.
bool floats_fit_warpgroups(const ConvArgs& a, Path path) {
  return floats_by_warpgroups(a, path) && a.g.out_channels <= 2 * kFewOutputs;
}

// Calls f(Type<M>) for the multiplying warps: of 128 pixels where a tile has the columns of one slab, which leave
// too little work for 64 pixels' threads, else of 64.
template <class F>
void dispatch_columns(const ConvArgs& a, Path path, F f) {
  if (floats_fit_warpgroups(a, path)) {
    return dispatch_parts(a, [&](auto parts) {
      f(Type<WgmmaFloatRows<64, decltype(parts)::value>>{});
    });
  }
  if (a.dtype == Dtype::kFloat32) {
    return a.allow_tf32 ? f(Type<MmaSync<Tf32Product, 64, 64>>{})
                        : f(Type<MmaSync<Float32Product, 64, 64>>{});
  }
  auto with_type = [&](auto element, auto product) {
    using T = decltype(element);
    if (path == Path::kMma) return f(Type<MmaSync<decltype(product), 64, 128>>{});
    column_tile(a, path) == 64 ? f(Type<Wgmma<T, 128, 64>>{}) : f(Type<Wgmma<T, 64, 128>>{});
  };
  a.dtype == Dtype::kFloat16 ? with_type(__half{}, HalfProduct{})
                             : with_type(__nv_bfloat16{}, BFloat16Product{});
}

// Calls f(Type<Shared<M, whether lanes share readings>>).
template <class F>
void dispatch_shared(const ConvArgs& a, Path path, F f) {
  dispatch_columns(a, path, [&](auto product) {
    using M = typename decltype(product)::type;
    one_group_a_tile(a, path) ? f(Type<Shared<M, true>>{}) : f(Type<Shared<M, false>>{});
  });
}

template <class S>
void launch(const ConvArgs& a, const Run& run, Path path, const void* packed_weight, char* columns,
            cudaStream_t stream) {
  using M = typename S::M;
  const PackedWeight packed = columns_weight(a, path);
  const int groups = S::kShareReadings ? int(a.g.deform_groups) : 1;
  const int pixels = int(run.images * a.g.out_height * a.g.out_width);
  const char* weight = static_cast<const char*>(packed_weight);
  const GradOffsetArgs f{a,
                         packed,
                         weight,
                         weight + packed.count() * sizeof(typename M::element),
                         columns,
                         ColumnSizes(a).row,
                         int(run.first),
                         pixels,
                         packed.slabs,
                         int(ceil_div(a.g.in_channels / groups, M::kTileCols)),
                         most_stages<S>(packed.slabs),
                         std::countr_zero(uint64_t(deform_chunks(a))),
                         groups};
  launch_blocks(grad_offset_mask_kernel<M, S::kShareReadings>, f,
                int(ceil_div(pixels, M::kTileRows)), M::kThreads + M::kFillThreads,
                shared_bytes<S>(packed.slabs, f.stages), stream);
  check(cudaGetLastError(), "fused grad_offset_mask");
}

}  // namespace

bool columns_fit(const ConvArgs& a, Path path) {
  const ConvGeometry& g = a.g;
  const int64_t chunks = deform_chunks(a);
  const bool lanes_fit = chunks == 1 || chunks == 2 || chunks == 4 || chunks == 8;
  const bool apart = one_group_a_tile(a, path);
  if (path == Path::kPlain || g.groups != 1 || !(apart || lanes_fit)) return false;
  if (apart && a.grad_input != nullptr) return false;  // it is a product of its own (grad_input.cu)
  const int slabs = columns_weight(a, path).slabs;
  bool fits = false;
  dispatch_shared(a, path, [&](auto shared) {
    fits = most_stages<typename decltype(shared)::type>(slabs) >= 2;
  });
  return fits;
}

PackedWeight columns_weight(const ConvArgs& a, Path path) {
  const OperandForm form = floats_fit_warpgroups(a, path) ? operand_form(a, path) : OperandForm{};
  return backward_weight(a, column_tile(a, path), form);
}

void launch_columns(const ConvArgs& a, const Run& run, Path path, const void* packed_weight,
                    char* columns, cudaStream_t stream) {
  dispatch_shared(a, path, [&](auto shared) {
    launch<typename decltype(shared)::type>(a, run, path, packed_weight, columns, stream);
  });
}

}  // namespace dcnv2::cuda
