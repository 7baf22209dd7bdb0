// SPDX-License-Identifier: BSD-3-Clause
#include "gather.cuh"

#include "chunk.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kPieceBlocks = 264;  // that share the pieces; each looks first whether there are any

// Adds entries from .. to of a pixel, of the chunk at `rows`.
template <class T>
__device__ __forceinline__ void add_entries(const SampleLists<float>& lists, const Entries& entries,
                                            uint32_t from, uint32_t to, const T* rows,
                                            int64_t row_elements, float (&sum)[kVector<T>]) {
  for (int down = 0; down < 2; ++down) {
    const uint32_t before = down ? entries.end[0] - entries.begin[0] : 0;
    const uint32_t begin = entries.begin[down] + (max(from, before) - before);
    const uint32_t end = min(entries.end[down], entries.begin[down] + (max(to, before) - before));
#pragma unroll 4
    for (uint32_t i = begin; i < end; ++i) {
      const int corner = 2 * down + (i < entries.middle[down] ? 1 : 0);
      const float weight = lists.weights[int64_t(i) * 4 + corner];
      add_chunk(load_chunk(reinterpret_cast<const char*>(rows + int64_t(lists.row[i]) * row_elements)),
                weight, sum, T{});
    }
  }
}

// The work of one thread: a pixel of an image and list, and a chunk of the list's channels.
template <class T>
struct Work {
  int64_t chunks;  // of a list
  const T* rows;

  __device__ explicit Work(const GatherArgs& a)
      : chunks(a.channels / a.lists.grid.lists / kVector<T>),
        rows(static_cast<const T*>(a.rows) - a.first_row * a.channels) {}
  __device__ int64_t channel(int64_t list, int64_t chunk) const {
    return (list * chunks + chunk) * kVector<T>;
  }
};

template <class T>
__device__ __forceinline__ void store_sum(const GatherArgs& a, int64_t n, int64_t y, int64_t x,
                                          int64_t channel, const float (&sum)[kVector<T>]) {
  const CellGrid& grid = a.lists.grid;
  T* to = static_cast<T*>(a.result) + ((n * grid.height + y) * grid.width + x) * a.channels + channel;
  *reinterpret_cast<uint4*>(to) = make_chunk(sum, T{});
}

template <class T>
__device__ void gather_piece(const GatherArgs& a, const Work<T>& work, int64_t index, int64_t chunk) {
  const CellGrid& grid = a.lists.grid;
  const Piece piece = a.lists.pieces[index];
  const int64_t x = piece.pixel % grid.width, y = piece.pixel / grid.width % grid.height;
  const int64_t n = piece.pixel / grid.width / grid.height, image = n % grid.images;
  if (image < a.first || image >= a.first + a.images) return;
  const Entries entries(a.lists, n, y, x);
  const uint32_t from = piece.part * kPieceEntries;
  float sum[kVector<T>] = {};
  add_entries<T>(a.lists, entries, from, min(from + kPieceEntries, entries.count()),
                 work.rows + work.channel(n / grid.images, chunk), a.channels, sum);
  float* to = a.partial + (index * work.chunks + chunk) * kVector<T>;
  for (int i = 0; i < kVector<T>; ++i) to[i] = sum[i];
}

// One thread a pixel and chunk, in the first `pixel_blocks` blocks; the others take the pieces.
template <class T>
__global__ void __launch_bounds__(kThreads) gather_kernel(GatherArgs a, int pixel_blocks) {
  const CellGrid& grid = a.lists.grid;
  const Work<T> work(a);
  const int height = int(grid.height), width = int(grid.width);
  if (int(blockIdx.x) >= pixel_blocks) {
    const int64_t count = *a.lists.piece_count * work.chunks;
    for (int64_t i = int64_t(blockIdx.x - pixel_blocks) * kThreads + threadIdx.x; i < count;
         i += int64_t(gridDim.x - pixel_blocks) * kThreads) {
      gather_piece(a, work, i / work.chunks, i % work.chunks);
    }
    return;
  }
  const int chunks = int(work.chunks * grid.lists);
  const int64_t index = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (index >= a.images * height * width * chunks) return;
  const int chunk = int(index % chunks), q = int(index / chunks), line = q / width;
  const int x = q % width, y = line % height, list = chunk / int(work.chunks);
  const int64_t image = a.first + line / height;
  const Entries entries(a.lists, list * grid.images + image, y, x);
  if (entries.count() > kPieceEntries) return;
  float sum[kVector<T>] = {};
  const int64_t channel = int64_t(chunk) * kVector<T>;
  add_entries<T>(a.lists, entries, 0, kPieceEntries, work.rows + channel, a.channels, sum);
  store_sum<T>(a, image, y, x, channel, sum);
}

// Adds the pieces of a pixel, in order.
template <class T>
__global__ void __launch_bounds__(kThreads) finish_kernel(GatherArgs a) {
  const CellGrid& grid = a.lists.grid;
  const Work<T> work(a);
  const int64_t count = *a.lists.piece_count * work.chunks;
  for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kThreads) {
    const Piece piece = a.lists.pieces[i / work.chunks];
    if (piece.part != 0) continue;
    float sum[kVector<T>] = {};
    for (uint32_t part = 0; part < piece.parts; ++part) {
      const float* from = a.partial + ((int64_t(piece.first) + part) * work.chunks + i % work.chunks) *
                                          kVector<T>;
      for (int j = 0; j < kVector<T>; ++j) sum[j] += from[j];
    }
    const int64_t n = piece.pixel / grid.width / grid.height;
    store_sum<T>(a, n % grid.images, piece.pixel / grid.width % grid.height,
                 piece.pixel % grid.width, work.channel(n / grid.images, i % work.chunks), sum);
  }
}

template <class F>
void with_chunks(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::kFloat16:
      return f(__half{});
    case Dtype::kBFloat16:
      return f(__nv_bfloat16{});
    default:
      return f(float{});
  }
}

}  // namespace

size_t gather_workspace(const ListLayout& layout, int64_t channels) {
  return layout.most_pieces * (channels / layout.grid.lists) * sizeof(float);
}

void launch_gather(const GatherArgs& a, cudaStream_t stream) {
  const CellGrid& grid = a.lists.grid;
  with_chunks(a.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t threads = a.images * grid.height * grid.width * (a.channels / kVector<T>);
    const int blocks = int(ceil_div(threads, kThreads));
    gather_kernel<T><<<blocks + kPieceBlocks, kThreads, 0, stream>>>(a, blocks);
    check(cudaGetLastError(), "gather");
  });
}

void launch_finish_gather(const GatherArgs& a, cudaStream_t stream) {
  with_chunks(a.dtype, [&](auto element) {
    finish_kernel<decltype(element)><<<kPieceBlocks, kThreads, 0, stream>>>(a);
    check(cudaGetLastError(), "finish gather");
  });
}

}  // namespace dcnv2::cuda
