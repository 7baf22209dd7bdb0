// SPDX-License-Identifier: BSD-3-Clause
// grad_weight = grad_output^T * columns for maps of few pixels. A task owns some input channels
// with all taps, which are contiguous in each row of the gradient, and adds the images in order.
#include "cpu/conv/few_pixels.h"

namespace dcnv2::cpu {
namespace {

constexpr int64_t kPixels = 128;  // of some images, sampled at once
constexpr int64_t kOutputs = 24;  // of a product: a multiple of a kernel's rows

template <class T>
class FewPixelsGradWeight {
 public:
  FewPixelsGradWeight(const ConvOperands& operands, const ChannelRows<T>& input,
                      const View& grad_output, const WeightMatrix<T>& grad_weight)
      : g_(operands.g),
        grad_output_(grad_output),
        grad_weight_(grad_weight),
        images_(images_at_once(g_, kPixels)),
        stride_(channels_at_once<T>(g_.in_channels) * g_.taps()),
        sampler_(operands, input, channels_at_once<T>(g_.in_channels)),
        columns_({images_ * pixels_of_image(g_) + 1, stride_}),
        grad_({images_ * pixels_of_image(g_), g_.out_channels}) {
    std::fill_n(columns_.data(), (images_ * pixels_of_image(g_) + 1) * stride_, T(0));
  }

  // Channels [begin, end), at most a panel.
  void operator()(int64_t begin, int64_t end) {
    const int64_t pixels = pixels_of_image(g_);
    const auto parts = cut_by_group(begin, end, g_.group_in());
    for (int64_t first = 0; first < g_.batch; first += images_) {
      const int64_t images = std::min(images_, g_.batch - first);
      for (int64_t n = 0; n < images; ++n) {
        load_rows(grad_output_, {first + n, 0, g_.out_channels, 0, pixels, g_.out_width},
                  grad_.data() + n * pixels * g_.out_channels, g_.out_channels);
        sampler_(first + n, begin, end, columns_.data() + n * pixels * stride_, stride_);
      }
      for (const ChannelSpan& part : parts) multiply(part, begin, images * pixels, first > 0);
    }
  }

 private:
  void multiply(const ChannelSpan& part, int64_t begin, int64_t pixels, bool accumulate) const {
    const int64_t last = (part.group + 1) * g_.group_out();
    PanelProduct<T> product{};
    product.columns = part.size() * g_.taps();
    product.depth = pixels;
    product.blocks = 1;
    product.a_stride = g_.out_channels;
    product.a_transposed = true;
    product.b = columns_.data() + (part.begin - begin) * g_.taps();
    product.b_stride = stride_;
    product.c_stride = grad_weight_.stride();
    product.accumulate = accumulate;
    for (int64_t out = last - g_.group_out(); out < last; out += kOutputs) {
      product.rows = std::min(kOutputs, last - out);
      product.a = grad_.data() + out;
      product.c = grad_weight_.at(out, part.begin);
      kernels_.panel_product(product);
    }
  }

  const ConvGeometry& g_;
  const View& grad_output_;
  const WeightMatrix<T>& grad_weight_;
  const Kernels<T>& kernels_ = kernels<T>();
  const int64_t images_, stride_;
  SliceSampler<T> sampler_;
  Buffer<T> columns_;  // [pixels + 1, stride]: vectors are read beyond the last row
  Buffer<T> grad_;     // [pixels, out_channels]
};

}  // namespace

template <class T>
void conv_grad_weight_few_pixels(const ConvOperands& operands, const View& grad_output,
                                 const View& grad_weight) {
  const ConvGeometry& g = operands.g;
  const ChannelRows<T> input = rows_of_input<T>(operands);
  const WeightMatrix<T> grads(g, grad_weight);
  const int64_t width = channels_at_once<T>(g.in_channels);
  run_tasks(ceil_div(g.in_channels, width), [&] {
    return [&, worker = FewPixelsGradWeight<T>(operands, input, grad_output, grads)](
               int64_t task) mutable {
      worker(task * width, std::min(task * width + width, g.in_channels));
    };
  });
  grads.store();
}

template void conv_grad_weight_few_pixels<float>(const ConvOperands&, const View&, const View&);
template void conv_grad_weight_few_pixels<double>(const ConvOperands&, const View&, const View&);

}  // namespace dcnv2::cpu
