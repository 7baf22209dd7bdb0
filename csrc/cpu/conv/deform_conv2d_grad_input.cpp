// SPDX-License-Identifier: BSD-3-Clause
// grad_input: every sample adds its column's gradient, times mask and bilinear weight, to the four
// pixels that it read. A task owns the image and the channels that it adds to and processes the
// samples in a fixed order, so nothing races and the sums do not depend on the number of threads.
#include "cpu/conv/conv_grad_samples.h"

namespace dcnv2::cpu {

template <class T>
GradInput<T>::GradInput(const ConvGeometry& g, int64_t most_channels)
    : g_(g), sums_({g.height, g.width, most_channels}) {}

template <class T>
void GradInput<T>::begin(int64_t channels) {
  channels_ = channels;
  std::fill_n(sums_.data(), g_.height * g_.width * channels, T(0));
}

template <class T>
void GradInput<T>::add(const GradColumns<T>& columns, const TapSamples<T>& samples,
                       const ChannelSpan& span, int64_t offset_in_slice) {
  T* image = sums_.data() + offset_in_slice;
  const T* grad = columns.data + offset_in_slice;
  kernels_.scatter_samples(samples.run(), {image, g_.width * channels_, channels_}, span.size(),
                           grad, kPanel<T>);
  for (const int p : samples.border()) {
    const ModulatedSample<T> sample = samples.at(p);
    const ValidCorners<T> corners = valid_corners(sample.place, g_);
    T* rows[4];
    T weights[4];
    for (int i = 0; i < corners.count; ++i) {
      rows[i] = image + corners.index[i] * channels_;
      weights[i] = corners.weight[i] * sample.mask;
    }
    kernels_.scatter_rows(rows, weights, corners.count, grad + p * kPanel<T>, span.size());
  }
}

template <class T>
void GradInput<T>::store(const View& grad_input, int64_t image, int64_t channel) const {
  store_rows(grad_input, {image, channel, channels_, 0, g_.height * g_.width, g_.width},
             sums_.data(), channels_);
}

template class GradInput<float>;
template class GradInput<double>;

}  // namespace dcnv2::cpu
