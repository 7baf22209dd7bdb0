// SPDX-License-Identifier: BSD-3-Clause
// grad_weight = grad_output^T * columns for maps of one pixel. A task owns some input channels with
// all taps, which are contiguous in each row of the gradient, and adds the images in order.
#include "cpu/conv/one_pixel.h"

namespace dcnv2::cpu {
namespace {

constexpr int64_t kImages = 128;  // sampled at once
constexpr int64_t kOutputs = 24;  // of a product: a multiple of a kernel's rows

template <class T>
class OnePixelGradWeight {
 public:
  OnePixelGradWeight(const ConvOperands& operands, const ChannelRows<T>& input,
                     const View& grad_output, const WeightMatrix<T>& grad_weight)
      : g_(operands.g),
        images_(std::min(kImages, g_.batch)),
        grad_output_(batch_as_pixels(grad_output), {1, g_.out_channels, 1, g_.batch}, images_),
        grad_weight_(grad_weight),
        stride_(channels_at_once<T>(g_.in_channels) * g_.taps()),
        sampler_(operands, input, channels_at_once<T>(g_.in_channels)),
        columns_({images_ + 1, stride_}) {
    std::fill_n(columns_.data(), (images_ + 1) * stride_, T(0));
  }

  // Channels [begin, end), at most a panel.
  void operator()(int64_t begin, int64_t end) {
    const auto parts = cut_by_group(begin, end, g_.group_in());
    for (int64_t first = 0; first < g_.batch; first += images_) {
      const int64_t images = std::min(images_, g_.batch - first);
      for (int64_t n = 0; n < images; ++n) {
        sampler_(first + n, begin, end, columns_.data() + n * stride_);
      }
      const T* grad = grad_output_.rows(0, first, images);
      for (const ChannelSpan& part : parts) multiply(grad, part, begin, images, first > 0);
    }
  }

 private:
  void multiply(const T* grad, const ChannelSpan& part, int64_t begin, int64_t images,
                bool accumulate) const {
    const int64_t last = (part.group + 1) * g_.group_out();
    PanelProduct<T> product{};
    product.columns = part.size() * g_.taps();
    product.depth = images;
    product.blocks = 1;
    product.a_stride = grad_output_.stride();
    product.a_transposed = true;
    product.b = columns_.data() + (part.begin - begin) * g_.taps();
    product.b_stride = stride_;
    product.c_stride = grad_weight_.stride();
    product.accumulate = accumulate;
    for (int64_t out = last - g_.group_out(); out < last; out += kOutputs) {
      product.rows = std::min(kOutputs, last - out);
      product.a = grad + out;
      product.c = grad_weight_.at(out, part.begin);
      kernels_.panel_product(product);
    }
  }

  const ConvGeometry& g_;
  const int64_t images_;
  PixelRows<T> grad_output_;  // its pixels are the batch
  const WeightMatrix<T>& grad_weight_;
  const Kernels<T>& kernels_ = kernels<T>();
  const int64_t stride_;
  ColumnSampler<T> sampler_;
  Buffer<T> columns_;  // [images + 1, stride]: vectors are read beyond the last row
};

}  // namespace

template <class T>
void conv_grad_weight_one_pixel(const ConvOperands& operands, const View& grad_output,
                                const View& grad_weight) {
  const ConvGeometry& g = operands.g;
  const ChannelRows<T> input = rows_of_input<T>(operands);
  const WeightMatrix<T> grads(g, grad_weight);
  const int64_t width = channels_at_once<T>(g.in_channels);
  run_tasks(ceil_div(g.in_channels, width), [&] {
    return [&, worker = OnePixelGradWeight<T>(operands, input, grad_output, grads)](
               int64_t task) mutable {
      worker(task * width, std::min(task * width + width, g.in_channels));
    };
  });
  grads.store();
}

template void conv_grad_weight_one_pixel<float>(const ConvOperands&, const View&, const View&);
template void conv_grad_weight_one_pixel<double>(const ConvOperands&, const View&, const View&);

}  // namespace dcnv2::cpu
