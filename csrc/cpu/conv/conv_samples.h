// SPDX-License-Identifier: BSD-3-Clause
// The samples of some output pixels, and the rows of channels that they read.
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include "geometry.h"
#include "cpu/simd/channel_spans.h"
#include "cpu/conv/deform_conv2d.h"
#include "cpu/simd/kernels.h"

namespace dcnv2::cpu {

// Output pixels [first, first + count) of one image.
struct OutPixels {
  int64_t image, first, count;
};

template <class T>
struct ModulatedSample {
  Sample<T> place;
  T mask;  // 1 without a mask
};

// The samples of a run of output pixels at one tap in one deform group.
template <class T>
class TapSamples {
 public:
  // locate() is called for `taps_per_copy` consecutive taps of a deform group, then for the same
  // taps of the next.
  TapSamples(const ConvOperands& operands, int64_t most_pixels, int64_t taps_per_copy);

  void locate(const OutPixels& pixels, int64_t deform_group, int64_t tap);

  // The samples with all four corners on the map, for the kernels; and the indices of the others.
  const SampleRun<T>& run() const { return run_; }
  std::span<const int> border() const { return {border_.data(), size_t(borders_)}; }

  // One of the other samples; `pixel` counts from the first.
  ModulatedSample<T> at(int64_t pixel) const {
    const T ly = run_.ly[pixel], lx = run_.lx[pixel];
    const bool inside = run_.y[pixel] != kOutside;
    const int y = inside ? kBorder - run_.y[pixel] : 0;
    return {{y, run_.x[pixel], ly, lx, inside, ly != ly}, mask_[pixel]};
  }
  T mask(int64_t pixel) const { return mask_[pixel]; }

 private:
  // The contents of the copy of a deform group.
  struct Slot {
    OutPixels pixels;
    int64_t deform_group, first_tap;
  };

  const T* plane(const View& view, int64_t channel, const OutPixels& pixels) const;
  const T* copied(const OutPixels& pixels, int64_t deform_group, int64_t tap);

  const ConvOperands& operands_;
  Buffer<T> columns_;  // undeformed x, [kernel_w, out_width]
  // Of offsets (y, x) and masks whose pixels do not follow each other, or are of another type:
  // [slots, 3 * taps_per_copy, most_pixels], the masks behind the offsets.
  Buffer<T> copies_;
  int64_t taps_per_copy_;
  std::vector<Slot> slots_;
  Buffer<T> ones_;  // [most_pixels]
  Buffer<T> numbers_;  // of the run, [6, most_pixels]
  Buffer<int> corners_, border_;
  SampleRun<T> run_;
  int64_t borders_ = 0;
  const T* mask_ = nullptr;
};

// The corners of a sample that are on the map. `index` counts pixels of the image; `corner` is the
// number of the corner in geometry.h.
template <class T>
struct ValidCorners {
  int count = 0;
  int corner[4];
  int64_t index[4];
  T weight[4];
};

template <class T>
ValidCorners<T> valid_corners(const Sample<T>& s, const ConvGeometry& g) {
  const Corners<T> all = make_corners(s, g.height, g.width);
  const int64_t base = s.y * g.width + s.x;
  ValidCorners<T> v;
  const int64_t index[4] = {base, base + 1, base + g.width, base + g.width + 1};
  if (all.valid[0] && all.valid[3]) {  // then all are, which is the usual case
    v.count = 4;
    for (int i = 0; i < 4; ++i) {
      v.corner[i] = i;
      v.index[i] = index[i];
      v.weight[i] = all.weight[i];
    }
    return v;
  }
  for (int i = 0; i < 4; ++i) {
    if (!all.valid[i]) continue;
    v.corner[v.count] = i;
    v.index[v.count] = index[i];
    v.weight[v.count++] = all.weight[i];
  }
  return v;
}

// An image of an operand for the kernels, from `channel` on.
template <class T>
ImageRows<const T> image_rows(const ChannelRows<T>& operand, const ConvGeometry& g, int64_t image,
                              int64_t channel) {
  return {operand.image(image, channel), g.width * operand.stride(), operand.stride()};
}

// out[p, c] = the modulated samples in some channels; rows of out are `out_stride` apart.
template <class T>
void sample_columns(const TapSamples<T>& samples, const ConvGeometry& g,
                    const ImageRows<const T>& image, int64_t channels, T* out, int64_t out_stride);

}  // namespace dcnv2::cpu
