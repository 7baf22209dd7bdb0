// SPDX-License-Identifier: BSD-3-Clause
// The gradients of input, offset and mask share the gradient of the columns. It is computed for
// some pixels and channels at a time and passed to each of them while it is in the cache.
#pragma once

#include "cpu/conv/conv_samples.h"

namespace dcnv2::cpu {

// The gradient of some pixels' columns at one tap, in a slice's channels: [pixels, kPanel].
template <class T>
struct GradColumns {
  OutPixels pixels;
  int64_t tap;
  const T* data;
};

// The channels of one task. `first_span` and `first_part` are counted over all slices.
struct ChannelSlice {
  int64_t begin, end;
  std::vector<ChannelSpan> spans;  // one deform group each
  std::vector<ChannelSpan> parts;  // one weight group each
  int64_t first_span, first_part;
};

// The gradient of one image in one slice's channels.
template <class T>
class GradInput {
 public:
  GradInput(const ConvGeometry& g, int64_t most_channels);

  void begin(int64_t channels);

  // Adds the contributions of a span's samples; the span begins at channel `offset_in_slice` of the
  // slice.
  void add(const GradColumns<T>& columns, const TapSamples<T>& samples, const ChannelSpan& span,
           int64_t offset_in_slice);

  void store(const View& grad_input, int64_t image, int64_t channel) const;

 private:
  const ConvGeometry& g_;
  const Kernels<T>& kernels_ = kernels<T>();
  int64_t channels_ = 0;
  Buffer<T> sums_;  // [height * width, channels]
};

// The gradients of offset and mask. If a deform group has several spans, each stores a partial sum,
// and finish() adds them in order.
template <class T>
class GradOffsetMask {
 public:
  // `spans` of all slices, in order.
  GradOffsetMask(const ConvGeometry& g, std::vector<ChannelSpan> spans, const View& grad_offset,
                 const View& grad_mask);

  // `image` holds the input's rows from the span's first channel on, `scratch` 7 * pixels numbers.
  void add(const GradColumns<T>& columns, const TapSamples<T>& samples, int64_t span,
           int64_t offset_in_slice, const ImageRows<const T>& image, T* scratch) const;

  void finish() const;

 private:
  // dots [pixels, 4] of the columns' gradient with each sample's corners
  void dot(const GradColumns<T>& columns, const TapSamples<T>& samples, int64_t span,
           int64_t offset_in_slice, const ImageRows<const T>& image, T* dots) const;
  // The shares of a span: the planes of offset y, offset x and mask, [3, out_height * out_width].
  T* shares(int64_t span, int64_t image, int64_t tap) const;
  void store(const OutPixels& pixels, int64_t channel, const T* planes, int64_t plane_stride) const;

  const ConvGeometry& g_;
  std::vector<ChannelSpan> spans_;
  View grad_offset_, grad_mask_;
  const Kernels<T>& kernels_ = kernels<T>();
  bool several_;
  Buffer<T> shares_;
};

}  // namespace dcnv2::cpu
