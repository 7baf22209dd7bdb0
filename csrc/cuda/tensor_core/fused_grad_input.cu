// SPDX-License-Identifier: BSD-3-Clause
// The gradient of the input as one implicit matrix product: for every tap, what the samples around a
// pixel add of grad_output, times the weight. Some of a block's warps gather that by the sorted samples
// into shared memory, the others multiply. No columns in global memory, nothing is scattered.
#include <limits>

#include "cuda/sample_sort/split_cells.cuh"
#include "cuda/tensor_core/tiles.cuh"

namespace dcnv2::cuda {

namespace {

struct GradInputArgs {
  TileGrid grid;
  OutputMap map;            // grad_input of the images of the lists
  SampleLists<float> lists;  // of every deform group and tap
  OversizedCells oversized;             // of these
  const char* grad_output;   // of those images
  uint32_t row_vecs;       // of a pixel of it
  int deform_channels;
};

template <class M>
struct GradInputSmem {
  static constexpr int kGroups = M::kProducerThreads / kRowVecs;  // of threads that share a row

  PipelineStorage<M> pipeline;
  float partial[kGroups][kRowElements<typename M::element>];  // of a crowded row, by who sums it
  bool oversized[M::kTileRows];
};

// Fills one step after the other: eight threads gather a row, each its chunk of every entry. They also
// share the entries' places and weights, eight entries at a time.
template <class M>
struct GradInputProducer {
  using T = typename M::element;
  using Sum = float[kVecSize<T>];
  static constexpr int kGroups = GradInputSmem<M>::kGroups, kItems = M::kTileRows / kGroups;
  static constexpr uint32_t kAll = 0xffffffffu, kShared = kRowVecs;
  // Whether, while a row's entries are added, the first of the next slab are on their way; where a thread has more
  // rows than one, registers do not suffice
  static constexpr bool kAhead = kItems == 1;
  // Entries on their way at a time: most pixels have about four, few have more than six
  static constexpr uint32_t kFirst = kAhead ? 6 : 4, kMore = 2;
  static constexpr uint32_t kNoKey = 0xffffffffu;

  // An entry: the chunk of grad_output where what it adds begins, and how much of it.
  struct Entry {
    uint32_t at;
    float weight;
  };

  const GradInputArgs& f;
  GradInputSmem<M>& shared;
  const int thread, group, lane;
  const bool copies;  // the weight
  const uint32_t line_keys, list_keys;
  const bool any_oversized;  // whether any pixel may have so many entries that all threads share them
  PipelineState<PipelineStorage<M>::kStages> state;

  __device__ GradInputProducer(const GradInputArgs& f, GradInputSmem<M>& shared, int thread)
      : f(f),
        shared(shared),
        thread(thread),
        group(thread / kRowVecs),
        lane(thread % kRowVecs),
        copies(in_first_warp(thread)),
        line_keys(uint32_t(f.lists.grid.width + 1)),
        list_keys(uint32_t(f.lists.grid.cells())),
        any_oversized(*f.lists.has_oversized != 0) {}

  // A thread's channels of a slab: where they lie in the first pixel, and whether they are there.
  struct ChannelSlice {
    const char* base;
    bool valid;
  };
  __device__ ChannelSlice slice_of(const OutputTile& tile, int k_tile) const {
    const int depth = f.grid.packed.depth, within = k_tile * kRowElements<T> + lane * kVecSize<T>;
    const bool valid = within < depth;
    return {f.grad_output + (tile.group * depth + (valid ? within : 0)) * int(sizeof(T)), valid};
  }

  // Keys fit 32 bits.
  __device__ uint32_t first_key(int row, int list) const {
    if (!shared.pipeline.producer_rows.exists(row)) return kNoKey;
    const Pixel p = shared.pipeline.producer_rows.pixel(row);
    return uint32_t(f.lists.key(list, p.n, p.y, p.x, 1));
  }
  // first: the key at the first tap.
  __device__ Entries entries(uint32_t first, int tap) const {
    if (first == kNoKey) return {};
    return Entries(f.lists.row_offsets, first + tap * list_keys, line_keys);
  }
  __device__ Entry entry(const Entries& entries, uint32_t index) const {
    if (index >= entries.count()) return {0, 0};
    const Entries::Position position = entries.position(index);
    return {f.lists.row[position.index] * f.row_vecs,
            f.lists.weights[int64_t(position.index) * 4 + position.corner]};
  }
  static __device__ uint4 load(const char* base, uint32_t at) {
    return load_vec16(base + uint64_t(at) * kVec16Bytes);
  }

  // Asks for the chunks of kCount of the eight entries of a row that its threads hold; only the first `count` are
  // there. Every thread of a warp takes part.
  template <uint32_t kCount>
  static __device__ __forceinline__ void prefetch_some(const Entry& mine, uint32_t begin, uint32_t count,
                                                  const char* base, uint4 (&vec)[kCount]) {
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) {
      const uint32_t at = __shfl_sync(kAll, mine.at, begin + i, kRowVecs);
      vec[i] = {};
      if (begin + i < count) vec[i] = load(base, at);
    }
  }
  template <uint32_t kCount>
  static __device__ __forceinline__ void add_some(const Entry& mine, uint32_t begin,
                                                  const uint4 (&vec)[kCount], Sum& sum) {
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) {
      fma_vec16(vec[i], __shfl_sync(kAll, mine.weight, begin + i, kRowVecs), sum, T{});
    }
  }
  // Adds those from `begin` on; the fullest row of the warp has `most`.
  static __device__ __forceinline__ void add_rest(const Entry& mine, uint32_t begin, uint32_t count,
                                                  uint32_t most, const char* base, Sum& sum) {
    for (; begin < min(most, kShared); begin += kMore) {
      uint4 vec[kMore];
      prefetch_some<kMore>(mine, begin, count, base, vec);
      add_some<kMore>(mine, begin, vec, sum);
    }
  }

  __device__ void store_row(char* k_tile, int row, const Sum& sum) const {
    store_operand<M, PipelineStorage<M>::kSplitBytes>(shared_address(k_tile) + swizzled_offset(row, lane), sum);
  }

  // The most of a number that each row of a warp has.
  static __device__ uint32_t most_of_warp(uint32_t v) {
    for (int step = kRowVecs; step < 32; step *= 2) v = max(v, __shfl_xor_sync(kAll, v, step));
    return v;
  }

  // Marks the rows that are a crowd at a step, which have no entries of their own then.
  __device__ void mark_oversized(uint32_t (&count)[kItems]) const {
    named_barrier(kProducerBarrier, M::kProducerThreads);  // nobody reads the old marks
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const bool oversized = count[i] > kOversized;
      if (lane == 0) shared.oversized[group + i * kGroups] = oversized;
      if (oversized) count[i] = 0;
    }
    named_barrier(kProducerBarrier, M::kProducerThreads);
  }
  // What a thread's share of a cell's samples adds to the pixel that is such a corner of it.
  __device__ void add_cell(SampleRange cell, int corner, const ChannelSlice& slice, Sum& sum) const {
    const uint32_t segment_length = f.oversized.segment_length;
    if (cell.end - cell.begin <= segment_length) {
#pragma unroll 4
      for (uint32_t i = cell.begin + group; i < cell.end; i += kGroups) {
        const float weight = f.lists.weights[int64_t(i) * 4 + corner];
        fma_vec16(load(slice.base, f.lists.row[i] * f.row_vecs), weight, sum, T{});
      }
      return;
    }
    const int64_t channel = (slice.base - f.grad_output) / int(sizeof(T));
    for (uint32_t i = cell.begin / segment_length + group; int64_t(i) * segment_length < cell.end; i += kGroups) {
      const int64_t segment = segment_index(max(cell.begin, i * segment_length), segment_length);
      const float* from = f.oversized.partial + (segment * 4 + corner) * f.oversized.channels + channel;
#pragma unroll
      for (int k = 0; k < kVecSize<T>; ++k) sum[k] += from[k];
    }
  }
  // Those rows, one after the other, by all threads; sums in a fixed order.
  __device__ void add_oversized(int list0, int tap, const ChannelSlice& slice, char* k_tile) const {
    for (int row = 0; row < M::kTileRows; ++row) {
      if (!shared.oversized[row]) continue;
      const Entries all = entries(first_key(row, list0), tap);
      Sum sum = {};
      if (slice.valid) {
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) add_cell(all.cell(corner), corner, slice, sum);
      }
#pragma unroll
      for (int i = 0; i < kVecSize<T>; ++i) shared.partial[group][lane * kVecSize<T> + i] = sum[i];
      named_barrier(kProducerBarrier, M::kProducerThreads);
      if (group == row % kGroups) {
        Sum total = {};
        for (int other = 0; other < kGroups; ++other) {
          const float* from = shared.partial[other] + lane * kVecSize<T>;
#pragma unroll
          for (int i = 0; i < kVecSize<T>; ++i) total[i] += from[i];
        }
        store_row(k_tile, row, total);
      }
      named_barrier(kProducerBarrier, M::kProducerThreads);
    }
  }

  __device__ void fill_tile(const OutputTile& tile) {
    PipelineStorage<M>& pipeline = shared.pipeline;
    const PackedWeight& packed = f.grid.packed;
    const int deform_group = (tile.group * packed.cols + tile.col0) / f.deform_channels;
    const int list0 = deform_group * packed.taps;
    // While a tap is gathered, the first entries of the next and the lists of the one after it come
    uint32_t key0[kItems];  // of the rows' pixels at the first tap
    Entries next[kItems];
    Entry ready[kItems], first[kItems];
    uint32_t ready_count[kItems], count[kItems], most[kItems];
    int next_tap = 0;
    auto prefetch = [&] {  // behind the last tap for what is not used, rather than by a branch
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        ready_count[i] = next[i].count();
        ready[i] = entry(next[i], lane);
        next[i] = entries(key0[i], next_tap);
      }
      next_tap = next_tap + 1 == packed.taps ? 0 : next_tap + 1;
    };
#pragma unroll
    for (int i = 0; i < kItems; ++i) key0[i] = first_key(group + i * kGroups, list0);
    prefetch();
    prefetch();
    for (int tap = 0; tap < packed.taps; ++tap) {
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        first[i] = ready[i];
        count[i] = ready_count[i];
      }
      prefetch();
      if (any_oversized) mark_oversized(count);
#pragma unroll
      for (int i = 0; i < kItems; ++i) most[i] = most_of_warp(count[i]);
      uint4 ahead[kFirst];
      ChannelSlice slice = slice_of(tile, 0);
      if (kAhead) prefetch_some<kFirst>(first[0], 0, slice.valid ? count[0] : 0, slice.base, ahead);
      for (int k_tile = 0; k_tile < packed.k_tiles; ++k_tile) {
        const ChannelSlice after = slice_of(tile, k_tile + 1);
        pipeline.empty[state.stage].wait(state.phase ^ 1);
        if (copies) {
          copy_tile<M>(pipeline.b[state.stage],
                       f.grid.weight + packed.tile(tile.group, k_tile * packed.taps + tap, tile.col0),
                       sizeof(pipeline.b[0]), pipeline.full[state.stage]);
        }
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          const uint32_t here = slice.valid ? count[i] : 0;
          uint4 now[kFirst];
          if constexpr (kAhead) {
#pragma unroll
            for (uint32_t k = 0; k < kFirst; ++k) now[k] = ahead[k];
            prefetch_some<kFirst>(first[i], 0, after.valid ? count[i] : 0, after.base, ahead);
          } else {
            prefetch_some<kFirst>(first[i], 0, here, slice.base, now);
          }
          Sum sum = {};
          add_some<kFirst>(first[i], 0, now, sum);
          add_rest(first[i], kFirst, here, most[i], slice.base, sum);
          for (uint32_t begin = kShared; begin < most[i]; begin += kShared) {
            const bool more = begin < count[i];
            const Entry mine = more ? entry(entries(key0[i], tap), begin + lane) : Entry{0, 0};
            add_rest(mine, 0, begin < here ? here - begin : 0, most[i] - begin, slice.base, sum);
          }
          store_row(pipeline.a[state.stage], group + i * kGroups, sum);
        }
        if (any_oversized) add_oversized(list0, tap, slice, pipeline.a[state.stage]);
        arrive_filled<M>(shared_address(&pipeline.full[state.stage]));
        state.advance();
        slice = after;
      }
    }
  }
};

template <class M>
__global__ void __launch_bounds__(M::kMathThreads + M::kProducerThreads, 1)
    grad_input_kernel(__grid_constant__ const GradInputArgs f) {
  if constexpr (M::kSupported) {
    extern __shared__ __align__(kTileAlignment) char raw[];
    auto& shared = *reinterpret_cast<GradInputSmem<M>*>(raw);
    init_pipeline(shared.pipeline.full, shared.pipeline.empty, M::kProducerThreads / 32 * kArrivals,
              M::kMathThreads / 32 * kArrivals);
    if (threadIdx.x < M::kMathThreads) {
      M::warpgroup_reg_alloc();
      math_tiles<M>(f.grid, f.map, shared.pipeline);
    } else {
      M::warpgroup_reg_dealloc();
      const int thread = threadIdx.x - M::kMathThreads;
      GradInputProducer<M> producer(f, shared, thread);
      for (int t = blockIdx.x; t < f.grid.tiles(); t += gridDim.x) {
        const OutputTile tile = output_tile_at<M>(f.grid, t);
        load_tile_pixels(shared.pipeline, f.grid, f.map, tile.row0, thread);
        producer.fill_tile(tile);
      }
    }
  }
}

// Whether tiles of so many columns never hold channels of two deform groups.
bool one_group_a_tile(const ConvGeometry& g, int cols) {
  return g.deform_channels() % g.group_in() == 0 ||
         (g.deform_channels() % cols == 0 && g.group_in() % g.deform_channels() == 0);
}

int grad_input_cols(const ConvArgs& a, Path path) {
  const int cols = tile_cols(a, path, a.g.group_in(), true);
  return one_group_a_tile(a.g, cols) ? cols : 64;
}

// The images that the lists take at a time, and where everything is in the workspace: the packed
// weight, then the lists.
struct Workspace {
  PackedWeight packed;
  int64_t images, lists, total;

  Workspace(const ConvArgs& a, Path path)
      : packed(backward_weight(a, grad_input_cols(a, path), operand_form(a, path))),
        images(images_per_pass(a.g)),
        lists(align_256(int64_t(packed_weight_bytes(a, packed)))),
        total(lists + sample_lists_workspace(a.g, images, sizeof(float))) {}
};

// The product for the images of some lists, from image `first` on.
void launch_images(const ConvArgs& a, Path path, const Workspace& layout, int64_t first,
                   char* workspace, cudaStream_t stream) {
  const ConvGeometry& g = a.g;
  const int64_t size = int64_t(element_size(a.dtype));
  const int64_t images = std::min(layout.images, g.batch - first);
  const auto lists =
      build_sample_lists<float>(a, first, images, workspace + layout.lists, stream);
  const char* grad_output = static_cast<const char*>(a.grad_output) +
                            first * g.out_height * g.out_width * g.out_channels * size;
  const OversizedCells oversized =
      sum_oversized_cells(lists, a.dtype, grad_output, g.out_channels, stream);
  dispatch_k_major_product<64>(a, path, layout.packed.tile_cols, [&](auto product) {
    using M = typename decltype(product)::type;
    const GradInputArgs f{
        .grid = {layout.packed, workspace, images * g.height * g.width, M::kTileRows,
                 M::kTileCols},
        .map = {static_cast<char*>(a.grad_input) + first * g.height * g.width * g.in_channels * size,
                int(g.height), int(g.width), int(g.in_channels), nullptr, 0},
        .lists = lists,
        .oversized = oversized,
        .grad_output = grad_output,
        .row_vecs = uint32_t(g.out_channels * size / kVec16Bytes),
        .deform_channels = int(g.deform_channels())};
    launch_persistent(grad_input_kernel<M>, f, f.grid.tiles(),
                      M::kMathThreads + M::kProducerThreads, sizeof(GradInputSmem<M>), stream);
    check(cudaGetLastError(), "fused grad_input");
  });
}

// Whether vector indices of grad_output, of the images of some lists, fit 32 bits.
bool vecs_fit(const ConvArgs& a) {
  const int64_t bytes = images_per_pass(a.g) * a.g.out_height * a.g.out_width * a.g.out_channels *
                        int64_t(element_size(a.dtype));
  return bytes / kVec16Bytes <= std::numeric_limits<uint32_t>::max();
}

}  // namespace

std::optional<PassPlan> plan_fused_grad_input(const ConvArgs& a, Path path) {
  if (path == Path::kSimt || !one_group_a_tile(a.g, grad_input_cols(a, path)) || !vecs_fit(a)) {
    return std::nullopt;
  }
  const Workspace layout(a, path);
  return PassPlan{.pass = "grad_input",
                  .path = path,
                  .tile_cols = layout.packed.tile_cols,
                  .packed_weight = packed_weight_bytes(a, layout.packed),
                  .workspace = size_t(layout.total),
                  .launch = [a, path, layout](void* workspace, cudaStream_t stream) {
                    launch_pack_weight(a, layout.packed, workspace, stream);
                    for (int64_t first = 0; first < a.g.batch; first += layout.images) {
                      launch_images(a, path, layout, first, static_cast<char*>(workspace), stream);
                    }
                  }};
}

}  // namespace dcnv2::cuda
