// SPDX-License-Identifier: BSD-3-Clause
// The gradient of the columns, grad_output * weight, for maps of one pixel: all taps of some images
// at once, from the weight as it is stored.
#pragma once

#include "cpu/conv/conv_grad_samples.h"
#include "cpu/conv/one_pixel.h"

namespace dcnv2::cpu {

template <class T>
class OnePixelGradColumns {
 public:
  using Weight = WeightMatrix<T>;
  static constexpr int64_t kPixels = 1;
  static constexpr int64_t kImages = 32;  // of a task: they share reads of the weight

  OnePixelGradColumns(const ConvGeometry& g, const View& grad_output, const Weight& weight)
      : g_(g),
        grad_output_(batch_as_pixels(grad_output), {1, g.out_channels, 1, g.batch},
                     std::min(kImages, g.batch)),
        weight_(weight),
        stride_(channels_at_once<T>(g.in_channels) * g.taps()),
        sums_({std::min(kImages, g.batch), stride_}),
        columns_({g.taps(), std::min(kImages, g.batch), kPanel<T>}) {}

  // A task, then one of its images.
  void begin(int64_t first_image, int64_t images, const ChannelSlice& slice) {
    first_image_ = first_image;
    images_ = images;
    const T* grad = grad_output_.rows(0, first_image, images);
    for (const ChannelSpan& part : slice.parts) multiply(grad, part, slice.begin);
    for (int64_t n = 0; n < images; ++n) {
      load_rows(taps_of_row(g_, sums_.data() + n * stride_),
                {0, 0, slice.end - slice.begin, 0, g_.taps(), g_.taps()},
                columns_.data() + n * kPanel<T>, images * kPanel<T>);
    }
  }
  void begin(const OutPixels& pixel) { image_ = pixel.image - first_image_; }

  // [1, kPanel], valid until the next task.
  const T* tap(int64_t tap) const { return columns_.data() + (tap * images_ + image_) * kPanel<T>; }

 private:
  static constexpr int64_t kOutputs = 16;  // rows of the weight that are read side by side

  void multiply(const T* grad, const ChannelSpan& part, int64_t begin) {
    const int64_t first = part.group * g_.group_out();
    PanelProduct<T> product{};
    product.rows = images_;
    product.columns = part.size() * g_.taps();
    product.blocks = 1;
    product.a_stride = grad_output_.stride();
    product.b_stride = weight_.stride();
    product.c = sums_.data() + (part.begin - begin) * g_.taps();
    product.c_stride = stride_;
    for (int64_t out = 0; out < g_.group_out(); out += kOutputs) {
      product.depth = std::min(kOutputs, g_.group_out() - out);
      product.a = grad + first + out;
      product.b = weight_.at(first + out, part.begin);
      product.accumulate = out > 0;
      kernels_.panel_product(product);
    }
  }

  const ConvGeometry& g_;
  PixelRows<T> grad_output_;  // its pixels are the batch
  const Weight& weight_;
  const Kernels<T>& kernels_ = kernels<T>();
  const int64_t stride_;
  Buffer<T> sums_;  // [images, stride]: ordered as the weight
  Buffer<T> columns_;  // [taps, images, kPanel]
  int64_t first_image_ = 0, images_ = 0, image_ = 0;
};

}  // namespace dcnv2::cpu
