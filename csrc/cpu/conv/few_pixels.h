// SPDX-License-Identifier: BSD-3-Clause
// Maps of few pixels. Each weight is used a few times only, so packing the weight would take longer
// than the products. The passes read it as it is stored, and order their columns like it: by input
// channel, then by tap. The order of a sum depends on neither the batch nor the threads.
#pragma once

#include "cpu/conv/conv_samples.h"

namespace dcnv2::cpu {

// Of one image, so that an image has the same bits in every batch. Measured at 1 to 64 pixels: with
// more than 16, large batches of 64 to 256 channels take longer than with a packed weight.
constexpr int64_t kFewPixels = 16;
// Of a weight group, in the forward: with fewer, ordering the columns takes a large share of the
// time, and large batches take up to twice as long as with a packed weight.
constexpr int64_t kLeastOutputs = 128;

inline int64_t pixels_of_image(const ConvGeometry& g) { return g.out_height * g.out_width; }
inline bool few_pixels(const ConvGeometry& g) {
  return g.out_pixels() > 0 && pixels_of_image(g) <= kFewPixels;
}

// Images that have up to `pixels` output pixels together.
inline int64_t images_at_once(const ConvGeometry& g, int64_t pixels) {
  return std::clamp<int64_t>(pixels / pixels_of_image(g), 1, g.batch);
}

// A number of columns with the padding that vectors read and products ignore.
template <class T>
int64_t padded(int64_t columns) {
  return ceil_div(columns, kVectorColumns<T>) * kVectorColumns<T>;
}

// Consecutive input channels of consecutive output channels of one weight group.
struct WeightBlock {
  int64_t out, outs;          // output channels, counted over all groups
  int64_t channel, channels;  // input channels, counted within the group
};

// Rows of a matrix, `stride` elements apart.
template <class T>
struct MatrixRows {
  T* data;
  int64_t stride;
};

// The weight, or its gradient, as a matrix [out_channels, group_in * taps].
template <class T>
class WeightMatrix {
 public:
  WeightMatrix(const ConvGeometry& g, const View& weight);

  // A block in the tensor's memory, or null if the tensor has another dtype or layout.
  MatrixRows<T> in_place(const WeightBlock& block) const;

  // Copies of a block in rows of a matrix; `scratch` holds channels * taps elements.
  void load(const WeightBlock& block, const MatrixRows<T>& rows) const;
  void store(const WeightBlock& block, const MatrixRows<const T>& rows, T* scratch) const;

 private:
  // A row of a block as consecutive pixels of one channel, for a dense weight.
  PixelRange run(const WeightBlock& block, int64_t row) const;

  const ConvGeometry& g_;
  View weight_;
  bool dense_;  // the weights of an output channel are contiguous, ordered by channel and tap
};

// Blocks of the weight: in place where possible, else copied.
template <class T>
class WeightReader {
 public:
  // Blocks have up to `most_outs` rows and `most_channels` channels. `whole_vectors`: rows are read
  // up to a multiple of kVectorColumns.
  WeightReader(const ConvGeometry& g, const View& weight, int64_t most_outs, int64_t most_channels,
               bool whole_vectors);

  // Valid until the next call.
  MatrixRows<const T> operator()(const WeightBlock& block);

 private:
  WeightMatrix<T> matrix_;
  int64_t taps_, stride_;
  bool whole_vectors_;
  Buffer<T> copy_;
};

// The modulated samples of all taps of one image in some channels.
template <class T>
class SliceSampler {
 public:
  SliceSampler(const ConvOperands& operands, const ChannelRows<T>& input);

  // Channels [begin, end), at most kPanel, to rows [pixels, channels * taps].
  void operator()(int64_t image, int64_t begin, int64_t end, const MatrixRows<T>& columns);

 private:
  const ConvGeometry& g_;
  const ChannelRows<T>& input_;
  TapSamples<T> samples_;
  Buffer<T> rows_;  // [taps, pixels, kPanel]
};

// One pixel's channels and taps, ordered as a row of the weight, as a view of them whose pixels are
// the taps.
template <class T>
View taps_of_pixel(const ConvGeometry& g, T* row) {
  return {row, kDtypeOf<T>, {0, g.taps(), g.taps(), 1}};
}

// The passes for these maps; see deform_conv2d.h.
template <class T>
void conv_forward_few_pixels(const ConvOperands& operands, const View& bias, const View& output);
template <class T>
void conv_grad_weight_few_pixels(const ConvOperands& operands, const View& grad_output,
                                 const View& grad_weight);

}  // namespace dcnv2::cpu
