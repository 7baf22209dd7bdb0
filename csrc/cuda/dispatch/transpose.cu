// SPDX-License-Identifier: BSD-3-Clause
// Contiguous to channels-last is, image by image, the transposition of a matrix [channels, pixels];
// the way back is that of [pixels, channels]. A block transposes one tile through shared memory,
// with 16-byte vectors on both sides, so that both move whole 128-byte lines.
#include "cuda/common/common.cuh"
#include "cuda/dispatch/transpose.cuh"

namespace dcnv2::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kLineVectors = 8;  // vectors of 16 bytes in a 128-byte line
constexpr int kLineWords = 32;

// Element is uint16_t or uint32_t: the copy only moves bits. Two 16-bit elements that are
// neighbours in a line of the destination travel as one 32-bit word.
template <class Element>
struct TransposeTile {
  static constexpr int kPerWord = 4 / sizeof(Element);
  static constexpr int kPerVector = 16 / sizeof(Element);
  static constexpr int kRows = kLineWords * kPerWord;  // of the source, 128 bytes of `to`
  static constexpr int kCols = kLineVectors * kPerVector;  // of the source, 128 bytes of `from`
};

struct TransposeArgs {
  const void* from;  // [images, rows, cols]
  void* to;  // [images, cols, rows]
  int rows, cols;
  int row_tiles, col_tiles;
};

// 16 bytes of a row; elements beyond the first `count` are zero.
template <class Element, bool kAligned>
__device__ __forceinline__ void load_vector(const Element* from, int count, uint32_t (&words)[4]) {
  if constexpr (kAligned) {
    const uint4 v = __ldg(reinterpret_cast<const uint4*>(from));
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
  } else {
    constexpr int kPerWord = TransposeTile<Element>::kPerWord;
#pragma unroll
    for (int i = 0; i < TransposeTile<Element>::kPerVector; ++i) {
      const uint32_t bits = i < count ? uint32_t(__ldg(from + i)) : 0;
      if (i % kPerWord == 0) words[i / kPerWord] = 0;
      words[i / kPerWord] |= bits << i % kPerWord * 16;
    }
  }
}

template <class Element, bool kAligned>
__device__ __forceinline__ void store_vector(Element* to, int count, const uint4& v) {
  if constexpr (kAligned) {
    *reinterpret_cast<uint4*>(to) = v;
  } else {
    constexpr int kPerWord = TransposeTile<Element>::kPerWord;
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < TransposeTile<Element>::kPerVector; ++i) {
      if (i < count) to[i] = Element(words[i / kPerWord] >> i % kPerWord * 16);
    }
  }
}

// The word of `to` that holds element `i` of one row, and of the next row for 16-bit elements.
__device__ __forceinline__ uint32_t pair_word(const uint32_t (&rows)[1][4], int i) {
  return rows[0][i];
}
__device__ __forceinline__ uint32_t pair_word(const uint32_t (&rows)[2][4], int i) {
  const uint32_t first = rows[0][i / 2], second = rows[1][i / 2];
  return i % 2 == 0 ? (first & 0xffff) | second << 16 : first >> 16 | (second & 0xffff0000u);
}

// Grid: column tiles of the source (fastest), row tiles, images.
template <class Element, bool kAlignedFrom, bool kAlignedTo>
__global__ void __launch_bounds__(kThreads) transpose_kernel(TransposeArgs a) {
  using Tile = TransposeTile<Element>;
  __shared__ uint4 tile[Tile::kCols * kLineVectors];  // a line of `to` for each column of `from`
  uint32_t* tile_words = reinterpret_cast<uint32_t*>(tile);
  const int col0 = int(blockIdx.x % a.col_tiles) * Tile::kCols;
  const int row0 = int(blockIdx.x / a.col_tiles % a.row_tiles) * Tile::kRows;
  const int64_t image = blockIdx.x / a.col_tiles / a.row_tiles;
  const int64_t image_start = image * a.rows * a.cols;
  const int thread = threadIdx.x;

  // Load: a thread takes one vector of the rows whose elements share a word of `to`. Words are
  // swizzled by the vector's number, so that the 32 lanes of a warp store to 32 banks.
  {
    const Element* from = static_cast<const Element*>(a.from) + image_start;
    const int vector = thread % kLineVectors, word = thread / kLineVectors;
    const int col = col0 + vector * Tile::kPerVector, row = row0 + word * Tile::kPerWord;
    uint32_t rows[Tile::kPerWord][4] = {};
#pragma unroll
    for (int k = 0; k < Tile::kPerWord; ++k) {
      if (row + k < a.rows && col < a.cols) {
        load_vector<Element, kAlignedFrom>(from + int64_t(row + k) * a.cols + col, a.cols - col,
                                           rows[k]);
      }
    }
#pragma unroll
    for (int i = 0; i < Tile::kPerVector; ++i) {
      const int line = vector * Tile::kPerVector + i;
      tile_words[line * kLineWords + (word ^ vector * 4)] = pair_word(rows, i);
    }
  }
  __syncthreads();

  // Store: eight threads write the 128 bytes of one line of `to`.
  Element* to = static_cast<Element*>(a.to) + image_start;
#pragma unroll
  for (int i = thread; i < Tile::kCols * kLineVectors; i += kThreads) {
    const int line = i / kLineVectors, vector = i % kLineVectors;
    const int col = col0 + line, row = row0 + vector * Tile::kPerVector;
    if (col >= a.cols || row >= a.rows) continue;
    const int swizzled = vector ^ line / Tile::kPerVector;
    store_vector<Element, kAlignedTo>(to + int64_t(col) * a.rows + row, a.rows - row,
                                      tile[line * kLineVectors + swizzled]);
  }
}

bool is_contiguous(const View4& v, const int64_t size[4]) {
  return v.stride_x == 1 && v.stride_y == size[3] && v.stride_c == size[2] * size[3] &&
         (size[0] == 1 || v.stride_n == size[1] * v.stride_c);
}

bool is_channels_last(const View4& v, const int64_t size[4]) {
  return v.stride_c == 1 && v.stride_x == size[1] && v.stride_y == size[3] * size[1] &&
         (size[0] == 1 || v.stride_n == size[2] * v.stride_y);
}

// Whether every row of `length` elements starts at a multiple of 16 bytes.
template <class Element>
bool rows_aligned(const void* data, int64_t length) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 &&
         length % TransposeTile<Element>::kPerVector == 0;
}

template <class Element>
bool transpose(const void* from, void* to, int64_t images, int64_t rows, int64_t cols,
               cudaStream_t stream) {
  using Tile = TransposeTile<Element>;
  constexpr int64_t kMaxSide = 1 << 30;  // so that tile corners are ints
  const int64_t row_tiles = ceil_div(rows, Tile::kRows), col_tiles = ceil_div(cols, Tile::kCols);
  if (rows > kMaxSide || cols > kMaxSide) return false;
  if (row_tiles * col_tiles > INT32_MAX / images) return false;  // blocks of one launch

  const TransposeArgs args{.from = from,
                           .to = to,
                           .rows = int(rows),
                           .cols = int(cols),
                           .row_tiles = int(row_tiles),
                           .col_tiles = int(col_tiles)};
  const bool aligned_from = rows_aligned<Element>(from, cols);
  const bool aligned_to = rows_aligned<Element>(to, rows);
  const auto kernel = aligned_from ? (aligned_to ? transpose_kernel<Element, true, true>
                                                 : transpose_kernel<Element, true, false>)
                                   : (aligned_to ? transpose_kernel<Element, false, true>
                                                 : transpose_kernel<Element, false, false>);
  kernel<<<unsigned(images * row_tiles * col_tiles), kThreads, 0, stream>>>(args);
  check(cudaGetLastError(), "layout copy");
  return true;
}

}  // namespace

bool launch_transpose(const View4& from, const View4& to, const int64_t size[4],
                      cudaStream_t stream) {
  const int64_t images = size[0], channels = size[1], pixels = size[2] * size[3];
  if (images * channels * pixels == 0) return false;
  int64_t rows = channels, cols = pixels;
  if (is_channels_last(from, size) && is_contiguous(to, size)) {
    std::swap(rows, cols);
  } else if (!is_contiguous(from, size) || !is_channels_last(to, size)) {
    return false;
  }
  switch (element_size(from.dtype)) {
    case 2:
      return transpose<uint16_t>(from.data, to.data, images, rows, cols, stream);
    case 4:
      return transpose<uint32_t>(from.data, to.data, images, rows, cols, stream);
    default:
      return false;
  }
}

}  // namespace dcnv2::cuda
