// SPDX-License-Identifier: BSD-3-Clause
// The order in which the fused kernels visit the pixels of a map: strips of 16 columns, each from
// top to bottom. 128 consecutive pixels are a block of 8 x 16, whose samples share cache lines, and
// no pixel is padding whatever the size.
#pragma once

#include "geometry.h"

namespace dcnv2::cuda {

constexpr int kStrip = 16;

struct Pixel {
  int n, y, x;
};

// Pixel `index` of that order, in maps of height x width.
DCNV2_HD Pixel strip_pixel(int index, int height, int width) {
  const int n = index / (height * width), within = index % (height * width);
  const int strip = within / (kStrip * height), left = strip * kStrip;
  const int columns = width - left < kStrip ? width - left : kStrip;
  const int rest = within - left * height;
  return {n, rest / columns, left + rest % columns};
}

// The pixels of a tile's rows, in shared memory.
template <int kRows>
struct RowPixels {
  int n[kRows];  // -1: the row is past the last pixel
  int y[kRows], x[kRows];

  // The rows become the pixels row0, row0 + 1, ... of the strip order; there are `pixels` in all.
  __device__ void fill(int row0, int pixels, int height, int width, int thread, int threads) {
    for (int row = thread; row < kRows; row += threads) {
      const Pixel p = strip_pixel(row0 + row, height, width);
      n[row] = row0 + row < pixels ? p.n : -1;
      y[row] = p.y;
      x[row] = p.x;
    }
  }
  __device__ bool exists(int row) const { return n[row] >= 0; }
  __device__ Pixel pixel(int row) const { return {n[row], y[row], x[row]}; }
};

}  // namespace dcnv2::cuda
