// SPDX-License-Identifier: BSD-3-Clause
// Batched non-maximum suppression. The sorted boxes of an image are cut into tiles of 64, so that a
// word of 64 bits tells which boxes of a tile a box suppresses. Chunks of tiles are processed one
// after the other, with three kernels each: boxes of the chunk that kept boxes of earlier chunks
// suppress, the words of the chunk, and its kept boxes. An image that has all its boxes skips the
// rest, and the memory of the words does not grow with the square of the number of boxes.
#include "cuda/nms/nms.h"

#include <cmath>
#include <utility>

#include "cuda/common/common.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kTile = 64;  // boxes, the bits of a word
constexpr int kChunkTiles = 64;  // tiles of a chunk
constexpr int kThreads = 256;  // of the kernels with a thread for each box
constexpr unsigned kWarp = 0xffffffffu;

// ---- Overlap

template <class T>
struct alignas(4 * sizeof(T)) Box {
  T x1, y1, x2, y2;
};

__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double product(double a, double b) { return __dmul_rn(a, b); }

// Whether the overlap of a kept box with a box of a lower score exceeds the threshold. For equal
// rounding, the operations, their order and the rounded threshold are those of torchvision's CUDA
// kernel as nvcc compiles it: the area of the second box is contracted into an fma, the shared area
// is not. With a NaN coordinate, an area and so the overlap are NaN, which exceeds nothing.
template <class T>
__device__ __forceinline__ bool suppresses(const Box<T>& kept, const Box<T>& box, float threshold) {
  const T width = fmax(fmin(kept.x2, box.x2) - fmax(kept.x1, box.x1), T(0));
  const T height = fmax(fmin(kept.y2, box.y2) - fmax(kept.y1, box.y1), T(0));
  const T shared = product(width, height);
  const T area = product(kept.x2 - kept.x1, kept.y2 - kept.y1);
  const T both = fma(box.x2 - box.x1, box.y2 - box.y1, area);
  // No threshold is negative, so boxes that share nothing need no division.
  return shared > T(0) && shared / (both - shared) > T(threshold);
}

// ---- Workspace

// The sorted boxes of each image, padded to whole tiles, and the words.
template <class T>
struct NmsWorkspace {
  int64_t tiles, most_kept, chunk_tiles;
  int64_t bytes = 0;
  Box<T>* boxes;  // [images, tiles, kTile]
  int64_t* groups;  // [images, tiles, kTile]
  uint64_t* removed;  // [images, tiles]: boxes that are suppressed, padding, or absent
  int64_t* kept;  // [images, most_kept]: places of kept boxes among the sorted ones
  uint64_t* words;  // [images, tiles of a chunk, boxes of a chunk]

  NmsWorkspace(const NmsArgs& a, void* memory)
      : tiles(ceil_div(a.boxes_per_image, kTile)),
        most_kept(std::min(a.max_out, a.boxes_per_image)),
        chunk_tiles(std::min<int64_t>(tiles, kChunkTiles)) {
    auto take = [&](auto*& pointer, int64_t count) {
      const int64_t size = count * int64_t(sizeof(*pointer));
      const int64_t at = std::exchange(bytes, bytes + (size + 255) / 256 * 256);
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(
          reinterpret_cast<uintptr_t>(memory) + at);
    };
    take(boxes, a.images * tiles * kTile);
    take(groups, a.images * tiles * kTile);
    take(removed, a.images * tiles);
    take(kept, a.images * most_kept);
    take(words, a.images * chunk_tiles * chunk_tiles * kTile);
  }
};

// The tiles that a launch processes of every image.
struct Chunk {
  int64_t first;
  int tiles;
};

// ---- Kernel: the boxes in their order

template <class T>
__global__ void __launch_bounds__(kThreads) gather_kernel(NmsArgs a, NmsWorkspace<T> w) {
  const int64_t index = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t image = index / (w.tiles * kTile), place = index % (w.tiles * kTile);
  if (image >= a.images) return;  // whole warps, as their number divides that of a tile
  Box<T> box{};
  int64_t group = 0;
  bool absent = true;
  if (place < a.boxes_per_image) {
    const int64_t from = static_cast<const int64_t*>(a.order.data)[a.order.index(image, place)];
    const T* corners = static_cast<const T*>(a.boxes.data);
    box = {corners[a.boxes.index(image, from, 0)], corners[a.boxes.index(image, from, 1)],
           corners[a.boxes.index(image, from, 2)], corners[a.boxes.index(image, from, 3)]};
    group = static_cast<const int64_t*>(a.groups.data)[a.groups.index(image, from)];
    absent = static_cast<const T*>(a.scores.data)[a.scores.index(image, place)] == T(-INFINITY);
  }
  w.boxes[index] = box;
  w.groups[index] = group;
  const unsigned bits = __ballot_sync(kWarp, absent);
  if (threadIdx.x % 32 == 0) reinterpret_cast<uint32_t*>(w.removed)[index / 32] = bits;
}

// ---- Kernel: boxes of a chunk that kept boxes of earlier chunks suppress

template <class T>
__global__ void __launch_bounds__(kThreads)
    suppress_kernel(NmsArgs a, NmsWorkspace<T> w, Chunk chunk, float threshold) {
  __shared__ Box<T> kept[kThreads];
  __shared__ int64_t groups[kThreads];
  const int blocks = int(ceil_div(chunk.tiles * kTile, kThreads));
  const int64_t image = blockIdx.x / blocks, count = a.counts[image];
  if (count == a.max_out) return;
  const int place = blockIdx.x % blocks * kThreads + threadIdx.x;
  const bool inside = place < chunk.tiles * kTile;  // of whole warps, see gather_kernel
  const int64_t first = image * w.tiles * kTile;
  const int64_t index = first + chunk.first * kTile + (inside ? place : 0);
  const Box<T> box = w.boxes[index];
  const int64_t group = w.groups[index];
  bool suppressed = false;
  for (int64_t from = 0; from < count; from += kThreads) {
    const int size = int(min(count - from, int64_t(kThreads)));
    __syncthreads();
    if (int(threadIdx.x) < size) {
      const int64_t at = first + w.kept[image * w.most_kept + from + threadIdx.x];
      kept[threadIdx.x] = w.boxes[at];
      groups[threadIdx.x] = w.groups[at];
    }
    __syncthreads();
    for (int i = 0; i < size && !suppressed; ++i) {
      suppressed = groups[i] == group && suppresses(kept[i], box, threshold);
    }
  }
  const unsigned bits = __ballot_sync(kWarp, suppressed);
  if (inside && threadIdx.x % 32 == 0) reinterpret_cast<uint32_t*>(w.removed)[index / 32] |= bits;
}

// ---- Kernel: the words of a chunk

// A block has a thread for each box of a tile. Word [across][i] of an image has a bit for each box
// of tile `across` that box i suppresses, if that box has a lower score.
template <class T>
__global__ void __launch_bounds__(kTile)
    words_kernel(NmsArgs a, NmsWorkspace<T> w, Chunk chunk, float threshold) {
  __shared__ Box<T> boxes[kTile];
  __shared__ int64_t groups[kTile];
  const int tile = blockIdx.x % chunk.tiles, across = blockIdx.x / chunk.tiles % chunk.tiles;
  const int64_t image = blockIdx.x / (chunk.tiles * chunk.tiles);
  if (tile > across || a.counts[image] == a.max_out) return;
  const int64_t first = image * w.tiles + chunk.first;
  const int own = threadIdx.x;
  boxes[own] = w.boxes[(first + across) * kTile + own];
  groups[own] = w.groups[(first + across) * kTile + own];
  __syncthreads();
  uint64_t bits = 0;
  if ((w.removed[first + tile] >> own & 1) == 0) {
    const Box<T> box = w.boxes[(first + tile) * kTile + own];
    const int64_t group = w.groups[(first + tile) * kTile + own];
    for (int i = tile == across ? own + 1 : 0; i < kTile; ++i) {
      if (groups[i] == group && suppresses(box, boxes[i], threshold)) bits |= uint64_t(1) << i;
    }
  }
  w.words[((image * chunk.tiles + across) * chunk.tiles + tile) * kTile + own] = bits;
}

// ---- Kernel: the kept boxes of a chunk

// A block has an image, and processes one tile after the other. First a warp decides which boxes of
// the tile are kept; then all threads collect what these suppress. For that, 16 threads have a
// column of words, and each of them four boxes of the tile.
constexpr int kColumnThreads = 16;
constexpr int kReduceThreads = kChunkTiles * kColumnThreads;
constexpr int kThreadBoxes = kTile / kColumnThreads;

struct alignas(8 * kThreadBoxes) ThreadWords {
  uint64_t bits[kThreadBoxes];
};

// The boxes of a tile that are kept: those left, without those that a kept one before them
// suppresses. `words`: of the tile with itself. Called by a warp, the result is that of all lanes.
__device__ uint64_t keep(uint64_t left, const uint64_t (&words)[kTile]) {
  const int lane = threadIdx.x % 32;
  // Only boxes that suppress another one left have to be visited.
  const bool low = (left >> lane & 1) && (words[lane] & left) != 0;
  const bool high = (left >> (lane + 32) & 1) && (words[lane + 32] & left) != 0;
  uint64_t visits = __ballot_sync(kWarp, low) | uint64_t(__ballot_sync(kWarp, high)) << 32;
  while (visits != 0) {
    const int box = __ffsll(static_cast<long long>(visits)) - 1;
    left &= ~words[box];
    visits &= left & (visits - 1);
  }
  return left;
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_kernel(NmsArgs a, NmsWorkspace<T> w, Chunk chunk) {
  __shared__ uint64_t removed[kChunkTiles], diagonal[kTile], kept;
  const int64_t image = blockIdx.x;
  const int thread = threadIdx.x, column = thread / kColumnThreads, share = thread % kColumnThreads;
  int64_t count = a.counts[image];  // of kept boxes, the same in all threads
  if (count == a.max_out) return;
  if (thread < chunk.tiles) removed[thread] = w.removed[image * w.tiles + chunk.first + thread];

  const auto* words = reinterpret_cast<const ThreadWords*>(w.words);
  auto load = [&](int tile) {
    const bool needed = tile <= column && column < chunk.tiles;
    const int64_t row = (image * chunk.tiles + column) * chunk.tiles + tile;
    return needed ? words[row * kColumnThreads + share] : ThreadWords{};
  };
  ThreadWords next = load(0);
  for (int tile = 0; tile < chunk.tiles; ++tile) {
    const ThreadWords own = next;
    if (tile + 1 < chunk.tiles) next = load(tile + 1);  // in flight while the tile is decided
    if (column == tile) {
      for (int i = 0; i < kThreadBoxes; ++i) diagonal[share * kThreadBoxes + i] = own.bits[i];
    }
    __syncthreads();
    if (thread < 32) {
      uint64_t found = keep(~removed[tile], diagonal);
      while (count + __popcll(found) > a.max_out) {
        found &= ~(uint64_t(1) << (63 - __clzll(static_cast<long long>(found))));
      }
      for (int bit = thread; bit < kTile; bit += 32) {
        if ((found >> bit & 1) == 0) continue;
        const int64_t slot = count + __popcll(found & ((uint64_t(1) << bit) - 1));
        const int64_t place = (chunk.first + tile) * kTile + bit;
        w.kept[image * w.most_kept + slot] = place;
        a.indices[image * a.max_out + slot] =
            static_cast<const int64_t*>(a.order.data)[a.order.index(image, place)];
      }
      if (thread == 0) kept = found;
    }
    __syncthreads();
    count += __popcll(kept);
    if (count == a.max_out) break;
    uint64_t suppressed = 0;
    for (int i = 0; i < kThreadBoxes; ++i) {
      if (kept >> (share * kThreadBoxes + i) & 1) suppressed |= own.bits[i];
    }
    for (int by = kColumnThreads / 2; by > 0; by /= 2) {
      suppressed |= __shfl_xor_sync(kWarp, suppressed, by);
    }
    if (share == 0 && column > tile) removed[column] |= suppressed;
  }
  if (thread == 0) a.counts[image] = count;
}

// ---- Launch

template <class T>
void launch(const NmsArgs& a, void* memory, cudaStream_t stream) {
  check(cudaMemsetAsync(a.indices, 0xff, a.images * a.max_out * sizeof(int64_t), stream),
        "indices of no box");  // -1
  check(cudaMemsetAsync(a.counts, 0, a.images * sizeof(int64_t), stream), "counts of kept boxes");
  if (a.boxes_per_image == 0) return;
  const NmsWorkspace<T> w(a, memory);
  const auto threshold = static_cast<float>(a.iou_threshold);
  gather_kernel<T><<<ceil_div(a.images * w.tiles * kTile, kThreads), kThreads, 0, stream>>>(a, w);
  check(cudaGetLastError(), "sorted boxes");
  for (int64_t first = 0; first < w.tiles; first += kChunkTiles) {
    const Chunk chunk{first, int(std::min<int64_t>(kChunkTiles, w.tiles - first))};
    if (first > 0) {
      const int64_t blocks = a.images * ceil_div(chunk.tiles * kTile, kThreads);
      suppress_kernel<T><<<blocks, kThreads, 0, stream>>>(a, w, chunk, threshold);
      check(cudaGetLastError(), "boxes that earlier ones suppress");
    }
    const int64_t pairs = a.images * chunk.tiles * chunk.tiles;
    words_kernel<T><<<pairs, kTile, 0, stream>>>(a, w, chunk, threshold);
    check(cudaGetLastError(), "words of suppressed boxes");
    reduce_kernel<T><<<a.images, kReduceThreads, 0, stream>>>(a, w, chunk);
    check(cudaGetLastError(), "kept boxes");
  }
}

}  // namespace

PassPlan plan_batched_nms(const NmsArgs& a) {
  const bool wide = a.dtype == Dtype::kFloat64;
  const int64_t bytes =
      wide ? NmsWorkspace<double>(a, nullptr).bytes : NmsWorkspace<float>(a, nullptr).bytes;
  return {.pass = "batched NMS",
          .workspace = size_t(bytes),
          .launch = [a, wide](const PassMemory& memory, cudaStream_t stream) {
            wide ? launch<double>(a, memory.workspace, stream)
                 : launch<float>(a, memory.workspace, stream);
          }};
}

}  // namespace dcnv2::cuda
