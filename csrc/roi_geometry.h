// SPDX-License-Identifier: BSD-3-Clause
// The one definition of where the RoI poolings sample, for the host and the device.
//
// Both average bilinear samples on a regular grid inside each bin, so positions, validity and
// clamping are separable: each axis is computed by itself. They differ in four rules:
//
//                   align (deform_roi_pool,                 psroi (deform_psroi_pool)
//                          multiscale_roi_align)
//   roi             scaled, not rounded                     rounded, end + 1, then scaled
//   samples         bin centres of a grid                   upper left corners of a grid
//   off the map     -1 <= v <= size counts, else zero       -0.5 <= v <= size - 0.5, else skipped
//   divided by      all samples                             the samples that were not skipped
//
// Inside the limits a position is clamped to the map before it is interpolated. The derivative by
// the position is right-sided, and zero where the position is clamped.
#pragma once

#include "geometry.h"

namespace dcnv2 {

// A map that rois are pooled from.
struct RoiLevel {
  int64_t height, width;
  double spatial_scale;  // pixels of the map per pixel of the image
};
constexpr int kMostLevels = 8;

struct RoiPoolGeometry {
  int64_t rois, batch, channels;
  int levels;  // several for multiscale_roi_align only
  RoiLevel level[kMostLevels];
  int64_t out_channels, pooled_h, pooled_w;
  double offset_scale;    // gamma or trans_std: offsets count in this share of the roi's size
  int64_t sampling;  // samples a bin and axis; 0: as many as the bin has pixels (align only)
  bool aligned;  // align: positions are shifted by half a pixel; if not, rois have a least size
  int64_t group_size;  // psroi: channels are position sensitive in group_size^2 groups
  int64_t part_size;  // psroi: offsets are on a part_size^2 grid
  int64_t classes;  // psroi: offsets of so many classes, each for its share of out_channels
};

// One axis of a roi: its start and its extent in feature pixels.
template <class T>
struct RoiAxis {
  T start, extent;
};

DCNV2_HD float round_of(float v) { return roundf(v); }
DCNV2_HD double round_of(double v) { return round(v); }
DCNV2_HD float ceil_of(float v) { return ceilf(v); }
DCNV2_HD double ceil_of(double v) { return ceil(v); }

// Without `aligned`, as in the first RoIAlign, a roi has at least one pixel of the map.
template <class T>
DCNV2_HD RoiAxis<T> align_roi_axis(T first, T last, T scale, bool aligned) {
  const T shift = aligned ? T(0.5) : T(0);
  const T start = first * scale - shift;
  const T extent = last * scale - shift - start;
  return {start, aligned || extent > T(1) ? extent : T(1)};
}

template <class T>
DCNV2_HD RoiAxis<T> psroi_roi_axis(T first, T last, T scale) {
  const T start = round_of(first) * scale - T(0.5);
  const T extent = (round_of(last) + T(1)) * scale - T(0.5) - start;
  return {start, extent > T(0.1) ? extent : T(0.1)};
}

// Where a roi is pooled from: its level and its image, or one of these.
constexpr int64_t kNoImage = -1;  // no image, no level or no finite box: its bins are NaN
constexpr int64_t kPaddingRoi = -2;  // a negative level: its bins are zero, and it has no gradient

// More samples than this along one axis of a bin mean a roi that is no roi (infinite, say): none.
constexpr int64_t kMostSamples = int64_t(1) << 16;

// The samples of one bin along one axis: position i is at first + i * step.
template <class T>
struct BinAxis {
  T first, step;
  int64_t count;
  T slope;  // d position / d offset
};

// `offset` is the bin's offset along this axis (0 without offsets).
template <class T>
DCNV2_HD BinAxis<T> align_bin_axis(const RoiAxis<T>& roi, int64_t bin, int64_t bins,
                                   int64_t sampling, T offset, T offset_scale) {
  const T size = roi.extent / T(bins);
  const T wanted = sampling > 0 ? T(sampling) : ceil_of(size);
  const int64_t count =
      wanted >= T(1) && wanted <= T(kMostSamples) ? static_cast<int64_t>(wanted) : 0;
  const T step = count > 0 ? size / T(count) : T(0);
  const T slope = offset_scale * roi.extent;
  return {roi.start + slope * offset + T(bin) * size + T(0.5) * step, step, count, slope};
}

template <class T>
DCNV2_HD BinAxis<T> psroi_bin_axis(const RoiAxis<T>& roi, int64_t bin, int64_t bins,
                                   int64_t sampling, T offset, T offset_scale) {
  const T size = roi.extent / T(bins);
  const T slope = offset_scale * roi.extent;
  return {roi.start + slope * offset + T(bin) * size, size / T(sampling), sampling, slope};
}

// The part whose offset a bin of psroi takes, and the channel group that it reads.
DCNV2_HD int64_t psroi_part(int64_t bin, int64_t bins, int64_t parts) { return bin * parts / bins; }
DCNV2_HD int64_t psroi_group(int64_t bin, int64_t bins, int64_t groups) {
  return bin * groups / bins;
}

// One sample along one axis.
template <class T>
struct AxisSample {
  int64_t low, high;  // the two pixels, equal at the map's end
  T frac;  // weight of `high`; 1 - frac is the weight of `low`
  bool counts;  // within the limits (a NaN position counts: it makes the bin NaN)
  bool moves;  // not clamped: the value changes with the position
};

template <class T>
DCNV2_HD AxisSample<T> make_axis_sample(T position, int64_t size, T below, T above) {
  AxisSample<T> s;
  const T last = T(size - 1);
  const bool is_nan = position != position;
  s.counts = is_nan || (position >= below && position <= above);
  s.moves = position >= T(0) && position < last;
  T clamped = position > T(0) ? position : T(0);
  clamped = clamped < last ? clamped : last;
  s.low = static_cast<int64_t>(clamped);
  s.high = s.low + 1 < size ? s.low + 1 : s.low;
  s.frac = is_nan ? position : clamped - T(s.low);
  return s;
}

template <class T>
DCNV2_HD AxisSample<T> align_axis_sample(T position, int64_t size) {
  return make_axis_sample(position, size, T(-1), T(size));
}

template <class T>
DCNV2_HD AxisSample<T> psroi_axis_sample(T position, int64_t size) {
  return make_axis_sample(position, size, T(-0.5), T(size) - T(0.5));
}

}  // namespace dcnv2
