// SPDX-License-Identifier: BSD-3-Clause
// Maps of one output pixel. Each weight is used once an image, so packing the weight would take
// longer than the products. The passes read it as it is stored, and order their columns like it: by
// input channel, then by tap. The order of a sum depends on neither the batch nor the threads.
#pragma once

#include "cpu/conv/conv_samples.h"

namespace dcnv2::cpu {

// Of a weight group. With 64 outputs, or with 8 inputs and 128 outputs, ordering the columns takes a
// large share of the time, and large batches take up to twice as long as with a packed weight.
constexpr int64_t kLeastInputs = 32, kLeastOutputs = 128;

inline bool one_pixel(const ConvGeometry& g) {
  return g.batch > 0 && g.out_height * g.out_width == 1 && g.group_in() >= kLeastInputs &&
         g.group_out() >= kLeastOutputs;
}

// Outputs [batch, channels, 1, 1] as one image whose pixels are the batch.
inline View batch_as_pixels(const View& outputs) {
  return {outputs.data, outputs.dtype, {0, outputs.stride[1], 0, outputs.stride[0]}};
}

// Elements ordered as a row of the weight, as a view of input channels whose pixels are the taps.
template <class T>
View taps_of_row(const ConvGeometry& g, T* row) {
  return {row, kDtypeOf<T>, {0, g.taps(), g.taps(), 1}};
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
class ColumnSampler {
 public:
  ColumnSampler(const ConvOperands& operands, const ChannelRows<T>& input, int64_t most_channels);

  // Channels [begin, end) to column [channels * taps].
  void operator()(int64_t image, int64_t begin, int64_t end, T* column);

 private:
  const ConvGeometry& g_;
  const ChannelRows<T>& input_;
  TapSamples<T> samples_;
  const int64_t stride_;
  Buffer<T> rows_;  // [taps, most_channels]
};

// The passes for these maps; see deform_conv2d.h.
template <class T>
void conv_forward_one_pixel(const ConvOperands& operands, const T* bias, const View& output);
template <class T>
void conv_grad_weight_one_pixel(const ConvOperands& operands, const View& grad_output,
                                const View& grad_weight);

}  // namespace dcnv2::cpu
