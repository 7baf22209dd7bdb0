// SPDX-License-Identifier: BSD-3-Clause
// grad_mask is the dot product of a column's gradient with the sample's value, grad_offset that
// with its slopes, times the mask. All follow from the dot products with the four corners.
#include "cpu/conv/conv_grad_samples.h"

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
void GradOffsetMask<T>::add(const GradColumns<T>& columns, const TapSamples<T>& samples,
                            int64_t span, int64_t offset_in_slice, const ImageRows<const T>& image,
                            T* scratch) const {
  const OutPixels& pixels = columns.pixels;
  const SampleRun<T>& run = samples.run();
  T* dots = scratch + 3 * pixels.count;
  dot(columns, samples, span, offset_in_slice, image, dots);
  T* planes = several_ ? shares(span, pixels.image, columns.tap) + pixels.first : scratch;
  const int64_t stride = several_ ? g_.out_height * g_.out_width : pixels.count;
  for (int64_t p = 0; p < pixels.count; ++p) {
    // A NaN coordinate makes both distances NaN, and so the gradients of its offset and mask.
    const Sample<T> place{0, 0, run.ly[p], run.lx[p], true, false};
    planes[p] = samples.mask(p) * slope_y(place, dots + 4 * p);
    planes[p + stride] = samples.mask(p) * slope_x(place, dots + 4 * p);
    planes[p + 2 * stride] = interpolate(place, dots + 4 * p);
  }
  if (!several_) store(pixels, spans_[span].group * g_.taps() + columns.tap, planes, stride);
}

template <class T>
void GradOffsetMask<T>::dot(const GradColumns<T>& columns, const TapSamples<T>& samples,
                            int64_t span, int64_t offset_in_slice, const ImageRows<const T>& image,
                            T* dots) const {
  const T* grad = columns.data + offset_in_slice;
  const int64_t channels = spans_[span].size();
  kernels_.dot_samples(samples.run(), image, channels, grad, kPanel<T>, dots);
  for (const int p : samples.border()) {
    const ValidCorners<T> corners = valid_corners(samples.at(p).place, g_);
    const T* rows[4];
    for (int i = 0; i < corners.count; ++i) {
      rows[i] = image.data + corners.index[i] * image.x_stride;
    }
    T found[4];
    kernels_.dot_rows(rows, corners.count, grad + p * kPanel<T>, channels, found);
    std::fill_n(dots + 4 * p, 4, T(0));
    for (int i = 0; i < corners.count; ++i) dots[4 * p + corners.corner[i]] = found[i];
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
