// SPDX-License-Identifier: BSD-3-Clause
#include "conv_samples.h"

namespace dcnv2::cpu {

template <class T>
SampleTable<T>::SampleTable(const ConvOperands& operands, int64_t most_pixels, int64_t most_taps)
    : operands_(operands),
      most_pixels_(most_pixels),
      y_({most_pixels}),
      x_({most_pixels}),
      mask_({most_pixels}),
      samples_({most_pixels, most_taps}) {}

template <class T>
void SampleTable<T>::fill(const OutPixels& pixels, int64_t deform_group, int64_t first_tap,
                          int64_t taps) {
  for (int64_t i = 0; i < taps; ++i) {
    fill_tap(pixels, deform_group, first_tap + i, samples_.data() + i * most_pixels_);
  }
}

template <class T>
void SampleTable<T>::fill_tap(const OutPixels& pixels, int64_t deform_group, int64_t tap,
                              ModulatedSample<T>* samples) {
  const ConvGeometry& g = operands_.g;
  const int64_t channel = deform_group * g.taps() + tap;
  PixelRange range{pixels.image, 2 * channel, 1, pixels.first, pixels.count, g.out_width};
  load_rows(operands_.offset, range, y_.data(), 1);
  ++range.channel;
  load_rows(operands_.offset, range, x_.data(), 1);
  if (operands_.mask) {
    range.channel = channel;
    load_rows(operands_.mask, range, mask_.data(), 1);
  }

  int64_t out_y = pixels.first / g.out_width, out_x = pixels.first % g.out_width;
  for (int64_t p = 0; p < pixels.count; ++p) {
    const T y = T(g.tap_y(out_y, tap)) + y_[p], x = T(g.tap_x(out_x, tap)) + x_[p];
    samples[p] = {make_sample(y, x, g.height, g.width), operands_.mask ? mask_[p] : T(1)};
    if (++out_x == g.out_width) {
      out_x = 0;
      ++out_y;
    }
  }
}

template class SampleTable<float>;
template class SampleTable<double>;

}  // namespace dcnv2::cpu
