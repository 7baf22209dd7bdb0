// SPDX-License-Identifier: BSD-3-Clause
// The gradient of the columns, grad_output * weight, from a packed weight: tap by tap, for some
// pixels of an image and the channels of a slice.
#pragma once

#include "cpu/conv/conv_grad_samples.h"

namespace dcnv2::cpu {

// For every part of every slice and every tap a panel of input channels [group_out, kPanel], zeros
// beyond the part's channels.
template <class T>
class PackedWeight {
 public:
  PackedWeight(const ConvGeometry& g, const View& weight, const std::vector<ChannelSlice>& slices)
      : taps_(g.taps()),
        panel_size_(g.group_out() * kPanel<T>),
        data_(
            {slices.back().first_part + int64_t(slices.back().parts.size()), taps_, panel_size_}) {
    run_tasks(slices.size(), [&] {
      return [&](int64_t task) {
        int64_t number = slices[task].first_part;
        for (const ChannelSpan& part : slices[task].parts) pack(g, weight, part, number++);
      };
    });
  }

  const T* panel(int64_t part, int64_t tap) const {
    return data_.data() + (part * taps_ + tap) * panel_size_;
  }

 private:
  void pack(const ConvGeometry& g, const View& weight, const ChannelSpan& part, int64_t number) {
    T* to = data_.data() + number * taps_ * panel_size_;
    std::fill_n(to, taps_ * panel_size_, T(0));
    for (int64_t o = 0; o < g.group_out(); ++o) {
      load_rows(weight,
                {part.group * g.group_out() + o, part.begin - part.group * g.group_in(),
                 part.size(), 0, taps_, g.kernel_w},
                to + o * kPanel<T>, panel_size_);
    }
  }

  int64_t taps_, panel_size_;
  Buffer<T> data_;
};

template <class T>
class PackedGradColumns {
 public:
  // Output pixels at once: a multiple of the rows that a kernel keeps in registers; at one tap they
  // fit the L1 cache.
  static constexpr int64_t kPixels = 96;

  PackedGradColumns(const ConvGeometry& g, const View& grad_output, const PackedWeight<T>& weight)
      : g_(g),
        grad_output_(grad_output, {g.batch, g.out_channels, g.out_height, g.out_width}, kPixels),
        weight_(weight),
        columns_({kPixels, kPanel<T>}) {}

  // A task, then its pixels.
  void begin(int64_t, int64_t, const ChannelSlice& slice) { slice_ = &slice; }
  void begin(const OutPixels& pixels) {
    pixels_ = pixels.count;
    grad_ = grad_output_.rows(pixels.image, pixels.first, pixels.count);
  }

  // [pixels, kPanel], valid until the next call.
  const T* tap(int64_t tap) {
    int64_t number = slice_->first_part;
    for (const ChannelSpan& part : slice_->parts) {
      PanelProduct<T> product{};
      product.rows = pixels_;
      product.columns = part.size();
      product.depth = g_.group_out();
      product.blocks = 1;
      product.a = grad_ + part.group * g_.group_out();
      product.a_stride = grad_output_.stride();
      product.b = weight_.panel(number++, tap);
      product.c = columns_.data() + part.begin - slice_->begin;
      product.c_stride = kPanel<T>;
      kernels_.panel_product(product);
    }
    return columns_.data();
  }

 private:
  const ConvGeometry& g_;
  PixelRows<T> grad_output_;
  const PackedWeight<T>& weight_;
  const Kernels<T>& kernels_ = kernels<T>();
  Buffer<T> columns_;
  const ChannelSlice* slice_ = nullptr;
  int64_t pixels_ = 0;
  const T* grad_ = nullptr;  // [pixels, out_channels]
};

}  // namespace dcnv2::cpu
