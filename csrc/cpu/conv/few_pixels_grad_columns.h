// SPDX-License-Identifier: BSD-3-Clause
// The gradient of the columns, grad_output * weight, for maps of few pixels: all taps of some
// images at once, from the weight as it is stored.
#pragma once

#include "cpu/conv/conv_grad_samples.h"
#include "cpu/conv/few_pixels.h"

namespace dcnv2::cpu {

template <class T>
class FewPixelsGradColumns {
 public:
  static constexpr int64_t kPixels = kFewPixels;  // of an image

  static int64_t images(const ConvGeometry& g) { return images_at_once(g, kPixelsOfTask); }

  FewPixelsGradColumns(const ConvGeometry& g, const View& grad_output,
                       const WeightMatrix<T>& weight)
      : g_(g),
        grad_output_(grad_output),
        weight_(weight),
        stride_(channels_at_once<T>(g.in_channels) * g.taps()),
        grad_({images(g) * pixels_of_image(g), g.out_channels}),
        sums_({images(g) * pixels_of_image(g), stride_}),
        columns_({g.taps(), images(g) * pixels_of_image(g), kPanel<T>}) {}

  // Up to images() images of a slice, then the pixels of one of them.
  void begin(int64_t first_image, int64_t images, const ChannelSlice& slice) {
    first_image_ = first_image;
    all_pixels_ = images * pixels_of_image(g_);
    const int64_t pixels = pixels_of_image(g_), channels = slice.end - slice.begin;
    for (int64_t n = 0; n < images; ++n) {
      load_rows(grad_output_, {first_image + n, 0, g_.out_channels, 0, pixels, g_.out_width},
                grad_.data() + n * pixels * g_.out_channels, g_.out_channels);
    }
    for (const ChannelSpan& part : slice.parts) multiply(part, slice.begin);
    for (int64_t p = 0; p < all_pixels_; ++p) {
      load_rows(taps_of_row(g_, sums_.data() + p * stride_),
                {0, 0, channels, 0, g_.taps(), g_.taps()}, columns_.data() + p * kPanel<T>,
                all_pixels_ * kPanel<T>);
    }
  }
  void begin(const OutPixels& pixels) {
    first_pixel_ = (pixels.image - first_image_) * pixels_of_image(g_) + pixels.first;
  }

  // [pixels, kPanel], valid until the next call.
  const T* tap(int64_t tap) const {
    return columns_.data() + (tap * all_pixels_ + first_pixel_) * kPanel<T>;
  }

 private:
  static constexpr int64_t kPixelsOfTask = 32;  // of some images, which share reads of the weight
  static constexpr int64_t kOutputs = 16;       // rows of the weight that are read side by side

  void multiply(const ChannelSpan& part, int64_t begin) {
    const int64_t first = part.group * g_.group_out();
    PanelProduct<T> product{};
    product.rows = all_pixels_;
    product.columns = part.size() * g_.taps();
    product.blocks = 1;
    product.a_stride = g_.out_channels;
    product.b_stride = weight_.stride();
    product.c = sums_.data() + (part.begin - begin) * g_.taps();
    product.c_stride = stride_;
    for (int64_t out = 0; out < g_.group_out(); out += kOutputs) {
      product.depth = std::min(kOutputs, g_.group_out() - out);
      product.a = grad_.data() + first + out;
      product.b = weight_.at(first + out, part.begin);
      product.accumulate = out > 0;
      kernels_.panel_product(product);
    }
  }

  const ConvGeometry& g_;
  const View& grad_output_;
  const Kernels<T>& kernels_ = kernels<T>();
  const WeightMatrix<T>& weight_;
  const int64_t stride_;
  Buffer<T> grad_;     // [pixels, out_channels]
  Buffer<T> sums_;     // [pixels, stride]: ordered as the weight
  Buffer<T> columns_;  // [taps, pixels, kPanel]
  int64_t first_image_ = 0, all_pixels_ = 0, first_pixel_ = 0;
};

}  // namespace dcnv2::cpu
