// SPDX-License-Identifier: BSD-3-Clause
// grad_weight[o, c, tap] = sum over output pixels of grad_output[p, o] * column[p, tap, c]. A task
// owns some input channels of some taps, so it samples nothing twice and adds in a fixed order.
#include "cpu/conv/one_pixel.h"

namespace dcnv2::cpu {
namespace {

constexpr int64_t kPixels = 128;  // sampled at once: a panel of them fits the L1 cache
constexpr int64_t kTaps = 3;      // of a task: they share the rows of grad_output

template <class T>
class GradWeightWorker {
 public:
  GradWeightWorker(const ConvOperands& operands, const ChannelRows<T>& input,
                   const View& grad_output, const View& grad_weight)
      : g_(operands.g),
        input_(input),
        grad_output_(grad_output, {g_.batch, g_.out_channels, g_.out_height, g_.out_width},
                     kPixels),
        grad_weight_(grad_weight),
        samples_(operands, kPixels, kTaps),
        columns_({kPixels + 1, kPanel<T>}),
        sums_({kTaps, g_.out_channels, kPanel<T>}) {}

  // Channels [begin, end), at most a panel, of taps from `tap` on.
  void operator()(int64_t tap, int64_t begin, int64_t end) {
    const int64_t taps = std::min(kTaps, g_.taps() - tap);
    const auto spans = cut_by_group(begin, end, g_.deform_channels());
    const auto parts = cut_by_group(begin, end, g_.group_in());
    std::fill_n(sums_.data(), kTaps * g_.out_channels * kPanel<T>, T(0));
    const int64_t image_pixels = g_.out_height * g_.out_width;
    for (int64_t n = 0; n < g_.batch; ++n) {
      for (int64_t first = 0; first < image_pixels; first += kPixels) {
        const OutPixels pixels{n, first, std::min(kPixels, image_pixels - first)};
        const T* grad = grad_output_.rows(n, first, pixels.count);
        for (int64_t t = 0; t < taps; ++t) {
          for (const ChannelSpan& span : spans) sample(pixels, tap + t, span, begin);
          for (const ChannelSpan& part : parts) multiply(pixels, grad, part, begin, sums(t));
        }
      }
    }
    for (int64_t t = 0; t < taps; ++t) {
      for (const ChannelSpan& part : parts) store(part, tap + t, begin, sums(t));
    }
  }

 private:
  // Of a task's tap: [out_channels, kPanel].
  T* sums(int64_t number) const { return sums_.data() + number * g_.out_channels * kPanel<T>; }

  // columns [pixels, kPanel], the first channel at `begin`
  void sample(const OutPixels& pixels, int64_t tap, const ChannelSpan& span, int64_t begin) {
    samples_.locate(pixels, span.group, tap);
    sample_columns(samples_, g_, image_rows(input_, g_, pixels.image, span.begin), span.size(),
                   columns_.data() + span.begin - begin, kPanel<T>);
  }

  // sums [out_channels, kPanel], rows of this part's group only; grad [pixels, out_channels]
  void multiply(const OutPixels& pixels, const T* grad, const ChannelSpan& part, int64_t begin,
                T* sums) {
    const int64_t first = part.group * g_.group_out();
    PanelProduct<T> product{};
    product.rows = g_.group_out();
    product.columns = part.size();
    product.depth = pixels.count;
    product.blocks = 1;
    product.a = grad + first;
    product.a_stride = grad_output_.stride();
    product.a_transposed = true;
    product.b = columns_.data() + part.begin - begin;
    product.c = sums + first * kPanel<T> + part.begin - begin;
    product.c_stride = kPanel<T>;
    product.accumulate = true;
    kernels_.panel_product(product);
  }

  void store(const ChannelSpan& part, int64_t tap, int64_t begin, const T* sums) {
    for (int64_t o = part.group * g_.group_out(); o < (part.group + 1) * g_.group_out(); ++o) {
      store_rows(grad_weight_,
                 {o, part.begin - part.group * g_.group_in(), part.size(), tap, 1, g_.kernel_w},
                 sums + o * kPanel<T> + part.begin - begin, kPanel<T>);
    }
  }

  const ConvGeometry& g_;
  const ChannelRows<T>& input_;
  PixelRows<T> grad_output_;
  const View& grad_weight_;
  const Kernels<T>& kernels_ = kernels<T>();
  TapSamples<T> samples_;
  Buffer<T> columns_, sums_;
};

}  // namespace

template <class T>
void conv_grad_weight(const ConvOperands& operands, const View& grad_output,
                      const View& grad_weight) {
  const ConvGeometry& g = operands.g;
  if (one_pixel(g)) return conv_grad_weight_one_pixel<T>(operands, grad_output, grad_weight);
  const ChannelRows<T> input = rows_of_input<T>(operands);
  const int64_t width = channels_at_once<T>(g.in_channels);
  const int64_t blocks = ceil_div(g.in_channels, width);
  run_tasks(ceil_div(g.taps(), kTaps) * blocks, [&] {
    return [&, worker = GradWeightWorker<T>(operands, input, grad_output, grad_weight)](
               int64_t task) mutable {
      const int64_t begin = task % blocks * width;
      worker(task / blocks * kTaps, begin, std::min(begin + width, g.in_channels));
    };
  });
}

template <class T>
void conv_grad_bias(const ConvGeometry& g, const View& grad_output, const View& grad_bias) {
  constexpr int64_t kChannels = 16;
  const int64_t image_pixels = g.out_height * g.out_width;
  run_tasks(ceil_div(g.out_channels, kChannels), [&] {
    return [&](int64_t task) {
      const int64_t first = task * kChannels, count = std::min(kChannels, g.out_channels - first);
      double sums[kChannels] = {};
      for (int64_t n = 0; n < g.batch; ++n) {
        for (int64_t p = 0; p < image_pixels; p += kPixels) {
          const int64_t pixels = std::min(kPixels, image_pixels - p);
          T rows[kPixels * kChannels];
          load_rows(grad_output, {n, first, count, p, pixels, g.out_width}, rows, kChannels);
          for (int64_t i = 0; i < pixels; ++i) {
            for (int64_t c = 0; c < count; ++c) sums[c] += rows[i * kChannels + c];
          }
        }
      }
      T totals[kChannels];
      std::copy_n(sums, count, totals);
      store_rows(grad_bias, {0, first, count, 0, 1, 1}, totals, count);
    };
  });
}

template void conv_grad_weight<float>(const ConvOperands&, const View&, const View&);
template void conv_grad_weight<double>(const ConvOperands&, const View&, const View&);
template void conv_grad_bias<float>(const ConvGeometry&, const View&, const View&);
template void conv_grad_bias<double>(const ConvGeometry&, const View&, const View&);

}  // namespace dcnv2::cpu
