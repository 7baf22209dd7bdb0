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
  ProductMap map;            // grad_input of the images of the lists
  SampleLists<float> lists;  // of every deform group and tap
  Crowds crowds;             // of these
  const char* grad_output;   // of those images
  uint32_t row_chunks;       // of a pixel of it
  int deform_channels;
};

template <class M>
struct Shared {
  static constexpr int kGroups = M::kFillThreads / kChunks;  // of threads that share a row

  TileRing<M> ring;
  float partial[kGroups][kSlab<typename M::element>];  // of a crowded row, by who sums it
  bool crowded[M::kTileRows];
};

// Fills one step after the other: eight threads gather a row, each its chunk of every entry. They also
// share the entries' places and weights, eight entries at a time.
template <class M>
struct Gatherer {
  using T = typename M::element;
  using Sum = float[kVector<T>];
  static constexpr int kGroups = Shared<M>::kGroups, kItems = M::kTileRows / kGroups;
  static constexpr uint32_t kAll = 0xffffffffu, kShared = kChunks;
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
  Shared<M>& shared;
  const int thread, group, lane;
  const bool copies;  // the weight
  const uint32_t line_keys, list_keys;
  const bool crowds;  // whether any pixel may have so many entries that all threads share them
  RingPosition<TileRing<M>::kStages> at;

  __device__ Gatherer(const GradInputArgs& f, Shared<M>& shared, int thread)
      : f(f),
        shared(shared),
        thread(thread),
        group(thread / kChunks),
        lane(thread % kChunks),
        copies(in_first_warp(thread)),
        line_keys(uint32_t(f.lists.grid.width + 1)),
        list_keys(uint32_t(f.lists.grid.cells())),
        crowds(*f.lists.crowded != 0) {}

  // A thread's channels of a slab: where they lie in the first pixel, and whether they are there.
  struct Part {
    const char* base;
    bool wanted;
  };
  __device__ Part part_of(const Tile& tile, int slab) const {
    const int depth = f.grid.packed.depth, within = slab * kSlab<T> + lane * kVector<T>;
    const bool wanted = within < depth;
    return {f.grad_output + (tile.group * depth + (wanted ? within : 0)) * int(sizeof(T)), wanted};
  }

  // Keys fit 32 bits.
  __device__ uint32_t first_key(int row, int list) const {
    if (!shared.ring.fill_rows.exists(row)) return kNoKey;
    const Pixel p = shared.ring.fill_rows.pixel(row);
    return uint32_t(f.lists.key(list, p.n, p.y, p.x, 1));
  }
  // first: the key at the first tap.
  __device__ Entries entries(uint32_t first, int tap) const {
    if (first == kNoKey) return {};
    return Entries(f.lists.start, first + tap * list_keys, line_keys);
  }
  __device__ Entry entry(const Entries& entries, uint32_t index) const {
    if (index >= entries.count()) return {0, 0};
    const Entries::Place place = entries.place(index);
    return {f.lists.row[place.index] * f.row_chunks,
            f.lists.weights[int64_t(place.index) * 4 + place.corner]};
  }
  static __device__ uint4 load(const char* base, uint32_t at) {
    return load_chunk(base + uint64_t(at) * kChunkBytes);
  }

  // Asks for the chunks of kCount of the eight entries of a row that its threads hold; only the first `count` are
  // there. Every thread of a warp takes part.
  template <uint32_t kCount>
  static __device__ __forceinline__ void ask_some(const Entry& mine, uint32_t begin, uint32_t count,
                                                  const char* base, uint4 (&chunk)[kCount]) {
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) {
      const uint32_t at = __shfl_sync(kAll, mine.at, begin + i, kChunks);
      chunk[i] = {};
      if (begin + i < count) chunk[i] = load(base, at);
    }
  }
  template <uint32_t kCount>
  static __device__ __forceinline__ void add_some(const Entry& mine, uint32_t begin,
                                                  const uint4 (&chunk)[kCount], Sum& sum) {
#pragma unroll
    for (uint32_t i = 0; i < kCount; ++i) {
      add_chunk(chunk[i], __shfl_sync(kAll, mine.weight, begin + i, kChunks), sum, T{});
    }
  }
  // Adds those from `begin` on; the fullest row of the warp has `most`.
  static __device__ __forceinline__ void add_rest(const Entry& mine, uint32_t begin, uint32_t count,
                                                  uint32_t most, const char* base, Sum& sum) {
    for (; begin < min(most, kShared); begin += kMore) {
      uint4 chunk[kMore];
      ask_some<kMore>(mine, begin, count, base, chunk);
      add_some<kMore>(mine, begin, chunk, sum);
    }
  }

  __device__ void store_row(char* slab, int row, const Sum& sum) const {
    store_operand<M, TileRing<M>::kPartBytes>(shared_address(slab) + chunk_offset(row, lane), sum);
  }

  // The most of a number that each row of a warp has.
  static __device__ uint32_t most_of_warp(uint32_t v) {
    for (int step = kChunks; step < 32; step *= 2) v = max(v, __shfl_xor_sync(kAll, v, step));
    return v;
  }

  // Marks the rows that are a crowd at a step, which have no entries of their own then.
  __device__ void mark_crowds(uint32_t (&count)[kItems]) const {
    named_barrier(kFillBarrier, M::kFillThreads);  // nobody reads the old marks
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const bool crowded = count[i] > kCrowd;
      if (lane == 0) shared.crowded[group + i * kGroups] = crowded;
      if (crowded) count[i] = 0;
    }
    named_barrier(kFillBarrier, M::kFillThreads);
  }
  // What a thread's share of a cell's samples adds to the pixel that is such a corner of it.
  __device__ void add_cell(SampleRange cell, int corner, const Part& part, Sum& sum) const {
    const uint32_t stretch = f.crowds.stretch;
    if (cell.end - cell.begin <= stretch) {
#pragma unroll 4
      for (uint32_t i = cell.begin + group; i < cell.end; i += kGroups) {
        const float weight = f.lists.weights[int64_t(i) * 4 + corner];
        add_chunk(load(part.base, f.lists.row[i] * f.row_chunks), weight, sum, T{});
      }
      return;
    }
    const int64_t channel = (part.base - f.grad_output) / int(sizeof(T));
    for (uint32_t i = cell.begin / stretch + group; int64_t(i) * stretch < cell.end; i += kGroups) {
      const int64_t number = crowd_part(max(cell.begin, i * stretch), stretch);
      const float* from = f.crowds.partial + (number * 4 + corner) * f.crowds.channels + channel;
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) sum[k] += from[k];
    }
  }
  // Those rows, one after the other, by all threads; sums in a fixed order.
  __device__ void add_crowds(int list0, int tap, const Part& part, char* slab) const {
    for (int row = 0; row < M::kTileRows; ++row) {
      if (!shared.crowded[row]) continue;
      const Entries all = entries(first_key(row, list0), tap);
      Sum sum = {};
      if (part.wanted) {
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) add_cell(all.cell(corner), corner, part, sum);
      }
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) shared.partial[group][lane * kVector<T> + i] = sum[i];
      named_barrier(kFillBarrier, M::kFillThreads);
      if (group == row % kGroups) {
        Sum total = {};
        for (int other = 0; other < kGroups; ++other) {
          const float* from = shared.partial[other] + lane * kVector<T>;
#pragma unroll
          for (int i = 0; i < kVector<T>; ++i) total[i] += from[i];
        }
        store_row(slab, row, total);
      }
      named_barrier(kFillBarrier, M::kFillThreads);
    }
  }

  __device__ void fill_tile(const Tile& tile) {
    TileRing<M>& ring = shared.ring;
    const PackedWeight& packed = f.grid.packed;
    const int deform_group = (tile.group * packed.cols + tile.col0) / f.deform_channels;
    const int list0 = deform_group * packed.taps;
    // While a tap is gathered, the first entries of the next and the lists of the one after it come
    uint32_t key0[kItems];  // of the rows' pixels at the first tap
    Entries next[kItems];
    Entry ready[kItems], first[kItems];
    uint32_t ready_count[kItems], count[kItems], most[kItems];
    int next_tap = 0;
    auto ask = [&] {  // behind the last tap for what is not used, rather than by a branch
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
    ask();
    ask();
    for (int tap = 0; tap < packed.taps; ++tap) {
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        first[i] = ready[i];
        count[i] = ready_count[i];
      }
      ask();
      if (crowds) mark_crowds(count);
#pragma unroll
      for (int i = 0; i < kItems; ++i) most[i] = most_of_warp(count[i]);
      uint4 ahead[kFirst];
      Part part = part_of(tile, 0);
      if (kAhead) ask_some<kFirst>(first[0], 0, part.wanted ? count[0] : 0, part.base, ahead);
      for (int slab = 0; slab < packed.slabs; ++slab) {
        const Part after = part_of(tile, slab + 1);
        ring.empty[at.stage].wait(at.parity ^ 1);
        if (copies) {
          copy_tile<M>(ring.b[at.stage],
                       f.grid.weight + packed.tile(tile.group, slab * packed.taps + tap, tile.col0),
                       sizeof(ring.b[0]), ring.full[at.stage]);
        }
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          const uint32_t here = part.wanted ? count[i] : 0;
          uint4 now[kFirst];
          if constexpr (kAhead) {
#pragma unroll
            for (uint32_t k = 0; k < kFirst; ++k) now[k] = ahead[k];
            ask_some<kFirst>(first[i], 0, after.wanted ? count[i] : 0, after.base, ahead);
          } else {
            ask_some<kFirst>(first[i], 0, here, part.base, now);
          }
          Sum sum = {};
          add_some<kFirst>(first[i], 0, now, sum);
          add_rest(first[i], kFirst, here, most[i], part.base, sum);
          for (uint32_t begin = kShared; begin < most[i]; begin += kShared) {
            const bool more = begin < count[i];
            const Entry mine = more ? entry(entries(key0[i], tap), begin + lane) : Entry{0, 0};
            add_rest(mine, 0, begin < here ? here - begin : 0, most[i] - begin, part.base, sum);
          }
          store_row(ring.a[at.stage], group + i * kGroups, sum);
        }
        if (crowds) add_crowds(list0, tap, part, ring.a[at.stage]);
        arrive_filled<M>(shared_address(&ring.full[at.stage]));
        at.advance();
        part = after;
      }
    }
  }
};

template <class M>
__global__ void __launch_bounds__(M::kThreads + M::kFillThreads, 1)
    grad_input_kernel(__grid_constant__ const GradInputArgs f) {
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
      const int thread = threadIdx.x - M::kThreads;
      Gatherer<M> gatherer(f, shared, thread);
      for (int t = blockIdx.x; t < f.grid.tiles(); t += gridDim.x) {
        const Tile tile = tile_at<M>(f.grid, t);
        begin_tile(shared.ring, f.grid, f.map, tile.row0, thread);
        gatherer.fill_tile(tile);
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

// Where everything lies in the workspace: the packed weight, then the lists of a run of images.
struct Plan {
  int cols;
  PackedWeight packed;
  int64_t images, lists, total;

  Plan(const ConvArgs& a, Path path)
      : cols(grad_input_cols(a, path)),
        packed(backward_weight(a, cols, operand_form(a, path))),
        images(images_a_run(a.g)) {
    const int64_t weight = (packed.count() + a.g.in_channels) * int64_t(element_size(a.dtype));
    lists = align_256(weight);
    total = lists + sample_lists_workspace(a.g, images, sizeof(float));
  }
};

}  // namespace

bool fused_grad_input_fits(const ConvArgs& a, Path path) {
  const ConvGeometry& g = a.g;
  if (path == Path::kPlain || !one_group_a_tile(g, grad_input_cols(a, path))) return false;
  // An entry tells its place in chunks
  const int64_t bytes = images_a_run(g) * g.out_height * g.out_width * g.out_channels * element_size(a.dtype);
  return bytes / kChunkBytes <= std::numeric_limits<uint32_t>::max();
}

size_t fused_grad_input_workspace(const ConvArgs& a, Path path) { return Plan(a, path).total; }

void launch_fused_grad_input(const ConvArgs& a, Path path, void* workspace, cudaStream_t stream) {
  const Plan plan(a, path);
  const ConvGeometry& g = a.g;
  const int64_t size = int64_t(element_size(a.dtype));
  launch_pack_weight(a, plan.packed, workspace, stream);
  for (int64_t first = 0; first < g.batch; first += plan.images) {
    const int64_t images = std::min(plan.images, g.batch - first);
    const auto lists = build_sample_lists<float>(
        a, first, images, static_cast<char*>(workspace) + plan.lists, stream);
    const char* grad_output = static_cast<const char*>(a.grad_output) +
                              first * g.out_height * g.out_width * g.out_channels * size;
    const Crowds crowds = sum_crowds(lists, a.dtype, grad_output, g.out_channels, stream);
    dispatch_depth_product<64>(a, path, plan.cols, [&](auto product) {
      using M = typename decltype(product)::type;
      const GradInputArgs f{
          {plan.packed, workspace, images * g.height * g.width, M::kTileRows, M::kTileCols},
          {static_cast<char*>(a.grad_input) + first * g.height * g.width * g.in_channels * size,
           int(g.height), int(g.width), int(g.in_channels), nullptr, 0},
          lists,
          crowds,
          grad_output,
          uint32_t(g.out_channels * size / kChunkBytes),
          int(g.deform_channels())};
      launch_persistent(grad_input_kernel<M>, f, f.grid.tiles(), M::kThreads + M::kFillThreads,
                        sizeof(Shared<M>), stream);
      check(cudaGetLastError(), "fused grad_input");
    });
  }
}

}  // namespace dcnv2::cuda
