// SPDX-License-Identifier: BSD-3-Clause
// The samples of some output pixels, and the rows of channels that they read.
#pragma once

#include <algorithm>
#include <limits>

#include "../geometry.h"
#include "channel_spans.h"
#include "deform_conv2d.h"
#include "kernels.h"

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

// The samples of a run of output pixels in one deform group, some taps at a time.
template <class T>
class SampleTable {
 public:
  SampleTable(const ConvOperands& operands, int64_t most_pixels, int64_t most_taps);

  void fill(const OutPixels& pixels, int64_t deform_group, int64_t first_tap, int64_t taps);

  // `tap` counts from first_tap, `pixel` from pixels.first.
  const ModulatedSample<T>& at(int64_t pixel, int64_t tap) const {
    return samples_[tap * most_pixels_ + pixel];
  }

 private:
  void fill_tap(const OutPixels& pixels, int64_t deform_group, int64_t tap,
                ModulatedSample<T>* samples);

  const ConvOperands& operands_;
  int64_t most_pixels_;
  Buffer<T> y_, x_, mask_;  // offsets and modulation of one tap
  Buffer<ModulatedSample<T>> samples_;
};

// The corners of a sample that lie on the map. `index` counts pixels of the image; `corner` is the
// corner's place in the order of geometry.h.
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
  if (all.valid[0] && all.valid[3]) {  // then all are, as nearly always
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

// out[c] = the modulated sample of `channels` channels; `image` and `stride` as in ChannelRows.
template <class T>
void sample_channels(const Kernels<T>& kernels, const ModulatedSample<T>& sample,
                     const ConvGeometry& g, const T* image, int64_t stride, int64_t channels,
                     T* out) {
  if (sample.place.nan) {
    std::fill_n(out, channels, std::numeric_limits<T>::quiet_NaN());
    return;
  }
  const ValidCorners<T> corners = valid_corners(sample.place, g);
  if (corners.count == 0) {
    std::fill_n(out, channels, sample.mask * T(0));
    return;
  }
  const T* rows[4];
  T weights[4];
  for (int i = 0; i < corners.count; ++i) {
    rows[i] = image + corners.index[i] * stride;
    weights[i] = corners.weight[i] * sample.mask;
  }
  kernels.weighted_sum(rows, weights, corners.count, channels, out);
}

}  // namespace dcnv2::cpu
