// SPDX-License-Identifier: BSD-3-Clause
// output^T = bias + weight * columns^T for maps of few pixels: the columns of some images are
// sampled first, then each task takes the dot products of some rows of the weight with them.
#include "cpu/conv/few_pixels.h"

namespace dcnv2::cpu {
namespace {

constexpr int64_t kColumnElements = 1 << 18;  // of some images: they stay in the L2 cache
constexpr int64_t kOutputs = 16;              // of a task: a multiple of a kernel's rows
constexpr int64_t kDepth = 1024;              // of a product: a kernel's rows fit the L1 cache

// The input channels of a product, such that it consists of whole vectors.
int64_t channels_of_product(const ConvGeometry& g) {
  constexpr int64_t kUnit = kVectorColumns<float>;
  return std::min(std::max<int64_t>(kDepth / g.taps() / kUnit, 1) * kUnit, g.group_in());
}

template <class T>
class FewPixelsForward {
 public:
  FewPixelsForward(const ConvOperands& operands, const T* bias, const View& output)
      : operands_(operands),
        g_(operands.g),
        input_(rows_of_input<T>(operands)),
        bias_(bias),
        output_(output),
        depth_(g_.in_channels * g_.taps()),
        images_(images_at_once(g_, kColumnElements / depth_)),
        columns_({images_ * pixels_of_image(g_), depth_}) {}

  void run() {
    for (int64_t first = 0; first < g_.batch; first += images_) {
      const int64_t images = std::min(images_, g_.batch - first);
      sample(first, images);
      multiply(first, images);
    }
  }

 private:
  void sample(int64_t first_image, int64_t images) {
    const int64_t width = channels_at_once<T>(g_.in_channels);
    const int64_t slices = ceil_div(g_.in_channels, width);
    run_tasks(images * slices, [&] {
      return [&, sampler = SliceSampler<T>(operands_, input_)](int64_t task) mutable {
        const int64_t image = task / slices, begin = task % slices * width;
        T* to = columns_.data() + image * pixels_of_image(g_) * depth_ + begin * g_.taps();
        sampler(first_image + image, begin, std::min(begin + width, g_.in_channels), {to, depth_});
      };
    });
  }

  void multiply(int64_t first_image, int64_t images) {
    const int64_t blocks = ceil_div(g_.group_out(), kOutputs);
    const int64_t pixels = images * pixels_of_image(g_);
    run_tasks(g_.groups * blocks, [&] {
      return [&,
              weight = WeightReader<T>(g_, operands_.weight, kOutputs, channels_of_product(g_),
                                       false),
              sums = Buffer<T>({kOutputs, pixels})](int64_t task) mutable {
        const int64_t group = task / blocks, first = task % blocks * kOutputs;
        const int64_t outs = std::min(kOutputs, g_.group_out() - first);
        const int64_t out = group * g_.group_out() + first;
        for (int64_t i = 0; i < outs; ++i) {
          std::fill_n(sums.data() + i * pixels, pixels, bias_ ? bias_[out + i] : T(0));
        }
        add_products(weight, group, out, outs, pixels, sums.data());
        store(first_image, images, out, outs, sums.data());
      };
    });
  }

  // sums [outs, pixels] of a group's output channels from `out` on
  void add_products(WeightReader<T>& weight, int64_t group, int64_t out, int64_t outs,
                    int64_t pixels, T* sums) const {
    const int64_t step = channels_of_product(g_);
    for (int64_t channel = 0; channel < g_.group_in(); channel += step) {
      const int64_t channels = std::min(step, g_.group_in() - channel);
      const MatrixRows<const T> rows = weight({out, outs, channel, channels});
      kernels_.row_dots({
          .rows = outs,
          .columns = pixels,
          .depth = channels * g_.taps(),
          .a = rows.data,
          .a_stride = rows.stride,
          .b = columns_.data() + (group * g_.group_in() + channel) * g_.taps(),
          .b_stride = depth_,
          .c = sums,
          .c_stride = pixels,
      });
    }
  }

  void store(int64_t first_image, int64_t images, int64_t out, int64_t outs, const T* sums) const {
    const int64_t pixels = pixels_of_image(g_);
    for (int64_t image = 0; image < images; ++image) {
      for (int64_t i = 0; i < outs; ++i) {
        store_rows(output_, {first_image + image, out + i, 1, 0, pixels, g_.out_width},
                   sums + (i * images + image) * pixels, 1);
      }
    }
  }

  const ConvOperands& operands_;
  const ConvGeometry& g_;
  const ChannelRows<T> input_;
  const T* bias_;
  const View& output_;
  const Kernels<T>& kernels_ = kernels<T>();
  const int64_t depth_, images_;
  Buffer<T> columns_;  // [pixels of some images, in_channels * taps]
};

}  // namespace

template <class T>
void conv_forward_few_pixels(const ConvOperands& operands, const View& bias, const View& output) {
  Buffer<T> bias_row({bias ? operands.g.out_channels : 0});
  if (bias) {
    load_rows(bias, {0, 0, operands.g.out_channels, 0, 1, 1}, bias_row.data(),
              operands.g.out_channels);
  }
  FewPixelsForward<T>(operands, bias_row.data(), output).run();
}

template void conv_forward_few_pixels<float>(const ConvOperands&, const View&, const View&);
template void conv_forward_few_pixels<double>(const ConvOperands&, const View&, const View&);

}  // namespace dcnv2::cpu
