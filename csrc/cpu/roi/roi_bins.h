// SPDX-License-Identifier: BSD-3-Clause
// The pixels that a bin of a RoI pooling reads. Samples are on a grid, and weights and limits are
// separable, so a bin is the outer product of two short lists of weighted rows and columns.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "roi_geometry.h"
#include "cpu/tensor/layout.h"
#include "cpu/roi/roi_pool.h"

namespace dcnv2::cpu {

// The rules of deform_roi_pool and of deform_psroi_pool, as a Bin calls them.
struct AlignRule {
  template <class T>
  static RoiAxis<T> roi_axis(T first, T last, T scale) {
    return align_roi_axis(first, last, scale);
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
  static RoiAxis<T> roi_axis(T first, T last, T scale) {
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
  explicit AxisWeights(int64_t size) : size_(size), place_(size, -1) {}

  template <class Rule>
  void fill(const BinAxis<T>& axis) {
    for (const int64_t i : index) place_[i] = -1;
    index.clear();
    weight.clear();
    slope.clear();
    nan = false;
    int64_t kept = 0;
    for (int64_t i = 0; i < axis.count; ++i) {
      const AxisSample<T> s = Rule::sample(axis.first + T(i) * axis.step, size_);
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

  int64_t size_;
  std::vector<int64_t> place_;  // of each pixel in the lists, or -1
};

// Boxes and offsets in type T, and the image that each box lies in.
template <class T>
class Rois {
 public:
  explicit Rois(const RoiOperands& operands)
      : operands_(operands), boxes_({operands.g.rois, 5}), images_({operands.g.rois}) {
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
      images_[r] = usable ? static_cast<int64_t>(box[0]) : -1;
    }
  }

  // -1: the batch index is out of range, or the box is not finite.
  int64_t image(int64_t r) const { return images_[r]; }

  template <class Rule>
  RoiAxis<T> y_axis(int64_t r) const {
    return Rule::roi_axis(boxes_[r * 5 + 2], boxes_[r * 5 + 4], T(operands_.g.spatial_scale));
  }
  template <class Rule>
  RoiAxis<T> x_axis(int64_t r) const {
    return Rule::roi_axis(boxes_[r * 5 + 1], boxes_[r * 5 + 3], T(operands_.g.spatial_scale));
  }

 private:
  const RoiOperands& operands_;
  Buffer<T> boxes_;
  Buffer<int64_t> images_;
};

// The pixels of one bin, with their weights.
template <class Rule, class T>
class Bin {
 public:
  AxisWeights<T> y, x;

  explicit Bin(const RoiOperands& operands)
      : y(operands.g.height), x(operands.g.width), operands_(operands), g_(operands.g) {}

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
    y.template fill<Rule>(along_y);
    x.template fill<Rule>(along_x);
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
        f(number++, y.index[i] * g_.width + x.index[j], i, j);
      }
    }
  }

 private:
  const RoiOperands& operands_;
  const RoiPoolGeometry& g_;
  bool nan_ = false;
  T divisor_ = 1;
};

}  // namespace dcnv2::cpu
