// SPDX-License-Identifier: BSD-3-Clause
// The pixels that a bin of a RoI pooling reads. Samples are on a grid, and weights and limits are
// separable, so a bin is the outer product of two short lists of weighted rows and columns.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "roi_geometry.h"
#include "cpu/tensor/layout.h"
#include "cpu/roi/roi_pool.h"

namespace dcnv2::cpu {

// The rules of deform_roi_pool and multiscale_roi_align, and of deform_psroi_pool, as a Bin calls
// them.
struct AlignRule {
  template <class T>
  static RoiAxis<T> roi_axis(T first, T last, T scale, bool aligned) {
    return align_roi_axis(first, last, scale, aligned);
  }
  template <class T>
  static BinAxis<T> bin_axis(const RoiAxis<T>& roi, int64_t bin, int64_t bins, int64_t sampling,
                             T offset, T offset_scale) {
    return align_bin_axis(roi, bin, bins, sampling, offset, offset_scale);
  }
  template <class T>
  static AxisSample<T> sample(T position, int64_t size) {
    return align_axis_sample(position, size);
  }
  static int64_t part(const RoiPoolGeometry&, int64_t bin, int64_t) { return bin; }
  static int64_t group(const RoiPoolGeometry&, int64_t, int64_t) { return 0; }
  static int64_t parts_h(const RoiPoolGeometry& g) { return g.pooled_h; }
  static int64_t parts_w(const RoiPoolGeometry& g) { return g.pooled_w; }
  // Samples of one axis that the average counts.
  static int64_t counted(int64_t samples, int64_t) { return samples; }
};

struct PsroiRule {
  template <class T>
  static RoiAxis<T> roi_axis(T first, T last, T scale, bool) {
    return psroi_roi_axis(first, last, scale);
  }
  template <class T>
  static BinAxis<T> bin_axis(const RoiAxis<T>& roi, int64_t bin, int64_t bins, int64_t sampling,
                             T offset, T offset_scale) {
    return psroi_bin_axis(roi, bin, bins, sampling, offset, offset_scale);
  }
  template <class T>
  static AxisSample<T> sample(T position, int64_t size) {
    return psroi_axis_sample(position, size);
  }
  static int64_t part(const RoiPoolGeometry& g, int64_t bin, int64_t bins) {
    return psroi_part(bin, bins, g.part_size);
  }
  static int64_t group(const RoiPoolGeometry& g, int64_t bin, int64_t bins) {
    return psroi_group(bin, bins, g.group_size);
  }
  static int64_t parts_h(const RoiPoolGeometry& g) { return g.part_size; }
  static int64_t parts_w(const RoiPoolGeometry& g) { return g.part_size; }
  static int64_t counted(int64_t, int64_t kept) { return kept; }
};

// The samples of a bin along one axis: for every pixel that they touch the sum of their weights,
// and of the derivatives of the weights with respect to the position.
template <class T>
class AxisWeights {
 public:
  // Of maps with at most so many pixels along the axis.
  explicit AxisWeights(int64_t most_pixels) : place_(most_pixels, -1) {}

  template <class Rule>
  void fill(const BinAxis<T>& axis, int64_t size) {
    for (const int64_t i : index) place_[i] = -1;
    index.clear();
    weight.clear();
    slope.clear();
    nan = false;
    int64_t kept = 0;
    for (int64_t i = 0; i < axis.count; ++i) {
      const AxisSample<T> s = Rule::sample(axis.first + T(i) * axis.step, size);
      if (!s.counts) continue;
      ++kept;
      nan = nan || s.frac != s.frac;
      add(s.low, T(1) - s.frac, s.moves ? T(-1) : T(0));
      if (s.high != s.low) add(s.high, s.frac, s.moves ? T(1) : T(0));
    }
    counted = Rule::counted(axis.count, kept);
    by_offset = axis.slope;
  }

  std::vector<int64_t> index;    // pixels of the axis, each once
  std::vector<T> weight, slope;  // of each
  int64_t counted = 0;           // samples to divide by
  T by_offset = 0;               // d position / d offset
  bool nan = false;              // a position is NaN

 private:
  void add(int64_t i, T w, T s) {
    if (place_[i] < 0) {
      place_[i] = int64_t(index.size());
      index.push_back(i);
      weight.push_back(0);
      slope.push_back(0);
    }
    weight[place_[i]] += w;
    slope[place_[i]] += s;
  }

  std::vector<int64_t> place_;  // of each pixel in the lists, or -1
};

// Boxes in type T, and the image and the level that each is pooled from.
template <class T>
class Rois {
 public:
  explicit Rois(const RoiOperands& operands)
      : operands_(operands),
        boxes_({operands.g.rois, 5}),
        images_({operands.g.rois}),
        levels_({operands.g.rois}) {
    const RoiPoolGeometry& g = operands.g;
    // Read as the pixels of one column, which supports any strides.
    const View rows{operands.rois.data,
                    operands.rois.dtype,
                    {0, operands.rois.stride[1], operands.rois.stride[0], 0}};
    load_rows(rows, {0, 0, 5, 0, g.rois, 1}, boxes_.data(), 5);
    for (int64_t r = 0; r < g.rois; ++r) {
      const T* box = boxes_.data() + r * 5;
      bool usable = box[0] >= T(0) && box[0] < T(g.batch);
      for (int i = 1; i < 5; ++i) usable = usable && std::isfinite(box[i]);
      images_[r] = usable ? static_cast<int64_t>(box[0]) : kNoImage;
      const int64_t of = operands.levels ? operands.levels[r * operands.levels_stride] : 0;
      if (of < 0) images_[r] = kPaddingRoi;
      if (of >= g.levels) images_[r] = kNoImage;
      levels_[r] = of >= 0 && of < g.levels ? of : 0;
    }
  }

  // Or kNoImage, or kPaddingRoi.
  int64_t image(int64_t r) const { return images_[r]; }
  int64_t level(int64_t r) const { return levels_[r]; }
  const RoiLevel& map(int64_t r) const { return operands_.g.level[levels_[r]]; }

  template <class Rule>
  RoiAxis<T> y_axis(int64_t r) const {
    return axis<Rule>(r, 2);
  }
  template <class Rule>
  RoiAxis<T> x_axis(int64_t r) const {
    return axis<Rule>(r, 1);
  }

 private:
  // From the box's coordinate in a column to that two columns on.
  template <class Rule>
  RoiAxis<T> axis(int64_t r, int64_t column) const {
    const T* box = boxes_.data() + r * 5;
    const T scale = T(map(r).spatial_scale);
    return Rule::roi_axis(box[column], box[column + 2], scale, operands_.g.aligned);
  }

  const RoiOperands& operands_;
  Buffer<T> boxes_;
  Buffer<int64_t> images_, levels_;
};

// The longest side of all levels: their height or their width.
inline int64_t longest(const RoiPoolGeometry& g, int64_t RoiLevel::* side) {
  int64_t most = 0;
  for (int level = 0; level < g.levels; ++level) most = std::max(most, g.level[level].*side);
  return most;
}

// The pixels of one bin, with their weights.
template <class Rule, class T>
class Bin {
 public:
  AxisWeights<T> y, x;

  explicit Bin(const RoiOperands& operands)
      : y(longest(operands.g, &RoiLevel::height)),
        x(longest(operands.g, &RoiLevel::width)),
        operands_(operands),
        g_(operands.g) {}

  // Bin (bin_y, bin_x) of a box on the map, with the offset of a class.
  void fill(const Rois<T>& rois, int64_t r, int64_t bin_y, int64_t bin_x, int64_t cls) {
    T offset[2] = {0, 0};  // x, y
    if (operands_.offset) {
      const int64_t parts_w = Rule::parts_w(g_);
      const int64_t part =
          Rule::part(g_, bin_y, g_.pooled_h) * parts_w + Rule::part(g_, bin_x, g_.pooled_w);
      load_rows(operands_.offset, {r, 2 * cls, 2, part, 1, parts_w}, offset, 2);
    }
    const T scale = T(g_.offset_scale);
    const BinAxis<T> along_y = Rule::bin_axis(rois.template y_axis<Rule>(r), bin_y, g_.pooled_h,
                                              g_.sampling, offset[1], scale);
    const BinAxis<T> along_x = Rule::bin_axis(rois.template x_axis<Rule>(r), bin_x, g_.pooled_w,
                                              g_.sampling, offset[0], scale);
    width_ = rois.map(r).width;
    y.template fill<Rule>(along_y, rois.map(r).height);
    x.template fill<Rule>(along_x, width_);
    nan_ = (y.nan || x.nan) && along_y.count > 0 && along_x.count > 0;
    divisor_ = T(std::max<int64_t>(y.counted * x.counted, 1));
  }

  bool nan() const { return nan_; }      // a position is NaN, and so is the average
  T divisor() const { return divisor_; }  // samples that the average counts, at least 1
  int64_t size() const { return int64_t(y.index.size() * x.index.size()); }

  // Calls f(number, pixel of the image, place in y's lists, place in x's lists) for each pixel.
  template <class F>
  void for_each(F f) const {
    int64_t number = 0;
    for (size_t i = 0; i < y.index.size(); ++i) {
      for (size_t j = 0; j < x.index.size(); ++j) {
        f(number++, y.index[i] * width_ + x.index[j], i, j);
      }
    }
  }

 private:
  const RoiOperands& operands_;
  const RoiPoolGeometry& g_;
  int64_t width_ = 0;  // of the map
  bool nan_ = false;
  T divisor_ = 1;
};

}  // namespace dcnv2::cpu
