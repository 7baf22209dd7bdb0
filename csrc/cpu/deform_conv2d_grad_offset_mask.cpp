// SPDX-License-Identifier: BSD-3-Clause
// grad_mask is the dot product of a column's gradient with the sample's value, grad_offset that
// with its slopes, times the mask. All follow from the dot products with the four corners.
#include "conv_grad_samples.h"

namespace dcnv2::cpu {

template <class T>
GradOffsetMask<T>::GradOffsetMask(const ConvGeometry& g, std::vector<ChannelSpan> spans,
                                  const View& grad_offset, const View& grad_mask)
    : g_(g),
      spans_(std::move(spans)),
      grad_offset_(grad_offset),
      grad_mask_(grad_mask),
      several_((grad_offset || grad_mask) && int64_t(spans_.size()) > g.deform_groups),
      shares_({several_ ? int64_t(spans_.size()) : 0, g.batch, g.taps(), 3, g.out_height,
               g.out_width}) {}

template <class T>
void GradOffsetMask<T>::add(const GradColumns<T>& columns, const SampleTable<T>& samples,
                            int64_t span, int64_t offset_in_slice, const T* image, int64_t stride,
                            T* scratch) const {
  const int64_t taps = g_.taps(), image_pixels = g_.out_height * g_.out_width;
  const OutPixels& pixels = columns.pixels;
  for (int64_t tap = 0; tap < taps; ++tap) {
    T* planes = several_ ? shares(span, pixels.image, tap) + pixels.first : scratch;
    const int64_t plane_stride = several_ ? image_pixels : pixels.count;
    for (int64_t p = 0; p < pixels.count; ++p) {
      const ModulatedSample<T>& sample = samples.at(p, tap);
      const ValidCorners<T> corners = valid_corners(sample.place, g_);
      const T* rows[4];
      for (int i = 0; i < corners.count; ++i) rows[i] = image + corners.index[i] * stride;
      T found[4], dots[4] = {};
      kernels_.dot_rows(rows, corners.count,
                        columns.data + (p * taps + tap) * columns.width + offset_in_slice,
                        spans_[span].size(), found);
      for (int i = 0; i < corners.count; ++i) dots[corners.corner[i]] = found[i];
      // A coordinate that is NaN makes its own gradients NaN.
      const T poison = sample.place.nan ? std::numeric_limits<T>::quiet_NaN() : T(0);
      planes[p] = sample.mask * slope_y(sample.place, dots) + poison;
      planes[p + plane_stride] = sample.mask * slope_x(sample.place, dots) + poison;
      planes[p + 2 * plane_stride] = interpolate(sample.place, dots) + poison;
    }
    if (!several_) store(pixels, spans_[span].group * taps + tap, planes, plane_stride);
  }
}

template <class T>
void GradOffsetMask<T>::finish() const {
  if (!several_) return;
  const int64_t taps = g_.taps(), numbers = 3 * g_.out_height * g_.out_width;
  run_tasks(g_.batch * g_.deform_groups * taps, [&] {
    return [&](int64_t task) {
      const int64_t tap = task % taps, group = task / taps % g_.deform_groups;
      const int64_t image = task / taps / g_.deform_groups;
      T* total = nullptr;
      for (int64_t span = 0; span < int64_t(spans_.size()); ++span) {
        if (spans_[span].group != group) continue;
        T* share = shares(span, image, tap);
        for (int64_t i = 0; total && i < numbers; ++i) total[i] += share[i];
        if (!total) total = share;
      }
      store({image, 0, numbers / 3}, group * taps + tap, total, numbers / 3);
    };
  });
}

template <class T>
T* GradOffsetMask<T>::shares(int64_t span, int64_t image, int64_t tap) const {
  const int64_t numbers = 3 * g_.out_height * g_.out_width;
  return shares_.data() + ((span * g_.batch + image) * g_.taps() + tap) * numbers;
}

template <class T>
void GradOffsetMask<T>::store(const OutPixels& pixels, int64_t channel, const T* planes,
                              int64_t plane_stride) const {
  PixelRange range{pixels.image, 2 * channel, 1, pixels.first, pixels.count, g_.out_width};
  if (grad_offset_) {
    store_rows(grad_offset_, range, planes, 1);
    ++range.channel;
    store_rows(grad_offset_, range, planes + plane_stride, 1);
  }
  range.channel = channel;
  if (grad_mask_) store_rows(grad_mask_, range, planes + 2 * plane_stride, 1);
}

template class GradOffsetMask<float>;
template class GradOffsetMask<double>;

}  // namespace dcnv2::cpu
