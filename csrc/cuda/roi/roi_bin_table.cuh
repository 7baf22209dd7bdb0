// SPDX-License-Identifier: BSD-3-Clause
// A table of all bins of a RoI pooling and the pixels that they may touch, for passes that search
// the bins of a pixel.
#pragma once

#include "cuda/roi/roi_bin.cuh"

namespace dcnv2::cuda {

// ---- Table

// The pixels that samples may touch. Empty: low > high.
struct alignas(16) Box {
  int low_y, high_y, low_x, high_x;
};
struct RoiBox {
  Box box;  // of all bins
  int image;  // negative: none
  int level;
};

template <class Acc>
struct TableBin {
  BinAxis<Acc> y, x;
  Acc scale;  // mask / divisor
};

// The table, in the workspace.
template <class Acc>
struct BinTable {
  Box* boxes;  // [classes, rois, pooled_h * pooled_w]
  RoiBox* rois;  // [rois]
  TableBin<Acc>* axes;  // as boxes

  static int64_t bins(const RoiPoolGeometry& g) {
    return g.classes * g.rois * g.pooled_h * g.pooled_w;
  }
  static size_t bytes(const RoiPoolGeometry& g) {
    return bins(g) * (sizeof(Box) + sizeof(TableBin<Acc>)) + g.rois * sizeof(RoiBox);
  }
  BinTable(const RoiPoolGeometry& g, void* workspace)
      : boxes(static_cast<Box*>(workspace)),
        rois(reinterpret_cast<RoiBox*>(boxes + bins(g))),
        axes(reinterpret_cast<TableBin<Acc>*>(rois + g.rois)) {}
};

// ---- Kernel

template <class Acc>
__device__ void find_pixels(const BinAxis<Acc>& axis, int64_t size, int& low, int& high) {
  const Acc other = axis.first + Acc(axis.count - 1) * axis.step, end = Acc(size - 1);
  const Acc least = fmin(axis.first, other), most = fmax(axis.first, other);
  low = INT_MAX;
  high = -1;
  // A NaN position reaches no pixel.
  if (axis.count == 0 || !(least <= Acc(size) && most >= Acc(-1))) return;
  low = static_cast<int>(fmin(fmax(floor_of(least), Acc(0)), end));
  high = static_cast<int>(fmin(floor_of(most) + Acc(1), end));
}

__device__ __forceinline__ int warp_max(int v) {
  for (int step = 16; step > 0; step /= 2) v = max(v, __shfl_xor_sync(0xffffffffu, v, step));
  return v;
}
__device__ __forceinline__ int warp_min(int v) { return -warp_max(-v); }

// One warp for each roi.
template <class Acc, class Rule>
__global__ void bins_kernel(RoiPoolArgs a, BinTable<Acc> table) {
  const RoiPoolGeometry& g = a.g;
  const int64_t bins = g.pooled_h * g.pooled_w;
  const int64_t r = (blockIdx.x * int64_t(blockDim.x) + threadIdx.x) / 32;
  if (r >= g.rois) return;
  Box all{INT_MAX, -1, INT_MAX, -1};
  int image = -1, level = 0;
  for (int64_t i = threadIdx.x % 32; i < g.classes * bins; i += 32) {
    const int64_t cls = i / bins, bin_y = i % bins / g.pooled_w, bin_x = i % g.pooled_w;
    const RoiBin<Acc, Rule> bin(a, r, bin_y, bin_x, cls);
    Box box;
    find_pixels(bin.y, g.level[bin.level].height, box.low_y, box.high_y);
    find_pixels(bin.x, g.level[bin.level].width, box.low_x, box.high_x);
    const int64_t at = (cls * g.rois + r) * bins + i % bins;
    table.boxes[at] = box;
    table.axes[at] = {bin.y, bin.x, bin_mask<Acc, Rule>(a, r, bin_y, bin_x) / bin.divisor(g)};
    all.low_y = min(all.low_y, box.low_y);
    all.high_y = max(all.high_y, box.high_y);
    all.low_x = min(all.low_x, box.low_x);
    all.high_x = max(all.high_x, box.high_x);
    image = static_cast<int>(bin.image);
    if constexpr (Rule::kMultiscale) level = bin.level;
  }
  all = {warp_min(all.low_y), warp_max(all.high_y), warp_min(all.low_x), warp_max(all.high_x)};
  image = warp_max(image);
  if constexpr (Rule::kMultiscale) level = warp_max(level);
  if (threadIdx.x % 32 == 0) table.rois[r] = {all, image, level};
}

}  // namespace dcnv2::cuda
