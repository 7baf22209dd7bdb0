// SPDX-License-Identifier: BSD-3-Clause
#include "conv_samples.h"

namespace dcnv2::cpu {

template <class T>
TapSamples<T>::TapSamples(const ConvOperands& operands, int64_t most_pixels)
    : operands_(operands),
      columns_({operands.g.kernel_w, operands.g.out_width}),
      copies_({3, most_pixels}),
      numbers_({6, most_pixels}),
      corners_({2, most_pixels}),
      border_({most_pixels}) {
  T* numbers = numbers_.data();
  run_ = {0,
          corners_.data(),
          corners_.data() + most_pixels,
          numbers,
          numbers + most_pixels,
          numbers + 2 * most_pixels,
          most_pixels};
  const ConvGeometry& g = operands.g;
  for (int64_t i = 0; i < g.kernel_w * g.out_width; ++i) {
    columns_[i] = T(g.tap_x(i % g.out_width, i / g.out_width));
  }
  std::fill_n(copies_.data() + 2 * most_pixels, most_pixels, T(1));
}

template <class T>
void TapSamples<T>::locate(const OutPixels& pixels, int64_t deform_group, int64_t tap) {
  const ConvGeometry& g = operands_.g;
  const int64_t channel = deform_group * g.taps() + tap, most = run_.weight_stride;
  const T* offset_y = plane(operands_.offset, 2 * channel, pixels, copies_.data());
  const T* offset_x = plane(operands_.offset, 2 * channel + 1, pixels, copies_.data() + most);
  T* ones = copies_.data() + 2 * most;
  mask_ = operands_.mask ? plane(operands_.mask, channel, pixels, ones) : ones;

  run_.count = pixels.count;
  int64_t out_y = pixels.first / g.out_width, out_x = pixels.first % g.out_width;
  for (int64_t done = 0; done < pixels.count; ++out_y, out_x = 0) {
    const int64_t count = std::min(g.out_width - out_x, pixels.count - done);
    const T* column = columns_.data() + tap % g.kernel_w * g.out_width + out_x;
    kernels<T>().locate({count, g.height, g.width, T(g.tap_y(out_y, tap)), column, offset_y + done,
                     offset_x + done, mask_ + done},
                    run_, done);
    done += count;
  }
  borders_ = 0;
  for (int64_t p = 0; p < pixels.count; ++p) {
    border_[borders_] = int(p);
    borders_ += run_.y[p] < 0;
  }
}

// Some pixels of a channel: where they lie if they follow each other, else in `copy`.
template <class T>
const T* TapSamples<T>::plane(const View& view, int64_t channel, const OutPixels& pixels,
                              T* copy) const {
  const int64_t width = operands_.g.out_width;
  if (view.dtype == kDtypeOf<T> && view.stride[3] == 1 && view.stride[2] == width) {
    const T* first = static_cast<const T*>(view.data) + pixels.image * view.stride[0] +
                     channel * view.stride[1] + pixels.first;
    // The next tap is the next plane of a mask, and the one after the next of the offsets.
    const T* next = first + (&view == &operands_.mask ? 1 : 2) * view.stride[1];
    for (int64_t p = 0; p < pixels.count; p += 64 / int64_t(sizeof(T))) {
      __builtin_prefetch(next + p);
    }
    return first;
  }
  load_rows(view, {pixels.image, channel, 1, pixels.first, pixels.count, width}, copy, 1);
  return copy;
}

namespace {

// out[c] = one modulated sample; NaN where its place is, and 0 off the map.
template <class T>
void sample_channels(const ModulatedSample<T>& sample, const ConvGeometry& g,
                     const ImageRows<const T>& image, int64_t channels, T* out) {
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
    rows[i] = image.data + corners.index[i] * image.x_stride;
    weights[i] = corners.weight[i] * sample.mask;
  }
  kernels<T>().weighted_sum(rows, weights, corners.count, channels, out);
}

}  // namespace

template <class T>
void sample_columns(const TapSamples<T>& samples, const ConvGeometry& g,
                    const ImageRows<const T>& image, int64_t channels, T* out,
                    int64_t out_stride) {
  kernels<T>().sample_rows(samples.run(), image, channels, out, out_stride);
  for (const int p : samples.border()) {
    sample_channels(samples.at(p), g, image, channels, out + p * out_stride);
  }
}

template class TapSamples<float>;
template class TapSamples<double>;
template void sample_columns<float>(const TapSamples<float>&, const ConvGeometry&,
                                    const ImageRows<const float>&, int64_t, float*, int64_t);
template void sample_columns<double>(const TapSamples<double>&, const ConvGeometry&,
                                     const ImageRows<const double>&, int64_t, double*, int64_t);

}  // namespace dcnv2::cpu
