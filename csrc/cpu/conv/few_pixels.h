// SPDX-License-Identifier: BSD-3-Clause
// Maps of few pixels. Each weight is used a few times only, so packing the weight would take longer
// than the products. The passes read it as it is stored, and order their columns like it: by input
// channel, then by tap. The order of a sum depends on neither the batch nor the threads.
#pragma once

#include "cpu/conv/conv_samples.h"

namespace dcnv2::cpu {

// Of one image, so that an image has the same bits in every batch. Measured at 1 to 64 pixels: with
// 16, large batches of 256 channels take up to 1.5 times as long as with a packed weight.
constexpr int64_t kFewPixels = 9;
// Of a weight group, in the forward: with 64, ordering the columns takes a large share of the time,
// and large batches take up to twice as long as with a packed weight.
constexpr int64_t kLeastOutputs = 128;

inline int64_t pixels_of_image(const ConvGeometry& g) { return g.out_height * g.out_width; }
inline bool few_pixels(const ConvGeometry& g) {
  return g.out_pixels() > 0 && pixels_of_image(g) <= kFewPixels;
}

// Images that have up to `pixels` output pixels together.
inline int64_t images_at_once(const ConvGeometry& g, int64_t pixels) {
  return std::clamp<int64_t>(pixels / pixels_of_image(g), 1, g.batch);
}

// The weight, or its gradient, as a matrix [out_channels, group_in * taps]: in the tensor's memory
// if it has that form, otherwise in a copy. Products may read up to kVectorColumns elements past
// any part of a row.
template <class T>
class WeightMatrix {
 public:
  WeightMatrix(const ConvGeometry& g, const View& weight);

  // Between the copy, if there is one, and the tensor.
  void load();
  void store() const;

  // From an output channel and an input channel on, both counted over all groups.
  T* at(int64_t out, int64_t channel) const {
    return data_ + out * stride_ + channel % g_.group_in() * g_.taps();
  }
  int64_t stride() const { return stride_; }

 private:
  const ConvGeometry& g_;
  View weight_;
  bool dense_ = true;  // the weights of an output channel are contiguous
  Buffer<T> copy_;
  T* data_;
  int64_t stride_;
};

// The modulated samples of all taps of one image in some channels.
template <class T>
class SliceSampler {
 public:
  SliceSampler(const ConvOperands& operands, const ChannelRows<T>& input, int64_t most_channels);

  // Channels [begin, end) to rows [pixels, channels * taps].
  void operator()(int64_t image, int64_t begin, int64_t end, T* columns, int64_t stride);

 private:
  const ConvGeometry& g_;
  const ChannelRows<T>& input_;
  TapSamples<T> samples_;
  const int64_t stride_;
  Buffer<T> rows_;  // [taps, pixels, most_channels]
};

// Elements ordered as a row of the weight, as a view of input channels whose pixels are the taps.
template <class T>
View taps_of_row(const ConvGeometry& g, T* row) {
  return {row, kDtypeOf<T>, {0, g.taps(), g.taps(), 1}};
}

// The passes for these maps; see deform_conv2d.h.
template <class T>
void conv_forward_few_pixels(const ConvOperands& operands, const T* bias, const View& output);
template <class T>
void conv_grad_weight_few_pixels(const ConvOperands& operands, const View& grad_output,
                                 const View& grad_weight);

}  // namespace dcnv2::cpu
