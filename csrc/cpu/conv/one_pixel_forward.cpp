// SPDX-License-Identifier: BSD-3-Clause
// output^T = bias + weight * columns^T for maps of one pixel: the columns of some images are
// sampled first, then each task takes the dot products of some rows of the weight with them.
#include "cpu/conv/one_pixel.h"

namespace dcnv2::cpu {
namespace {

constexpr int64_t kColumnElements = 1 << 18;  // of some images: they stay in the L2 cache
constexpr int64_t kOutputs = 16;              // of a task: a multiple of a kernel's rows
constexpr int64_t kDepth = 1024;              // of a product: a kernel's rows fit the L1 cache

template <class T>
class OnePixelForward {
 public:
  OnePixelForward(const ConvOperands& operands, const T* bias, const View& output)
      : operands_(operands),
        g_(operands.g),
        input_(rows_of_input<T>(operands)),
        weight_(g_, operands.weight),
        bias_(bias),
        output_(batch_as_pixels(output)),
        depth_(g_.in_channels * g_.taps()),
        images_(std::clamp<int64_t>(kColumnElements / depth_, 1, g_.batch)),
        columns_({images_, depth_}) {
    weight_.load();
  }

  void run() {
    for (int64_t first = 0; first < g_.batch; first += images_) {
      const int64_t images = std::min(images_, g_.batch - first);
      sample(first, images);
      multiply(first, images);
    }
  }

 private:
  // One task an image: starting threads takes longer than sampling one pixel.
  void sample(int64_t first_image, int64_t images) {
    run_tasks(images, [&] {
      return [&, sampler =
                     ColumnSampler<T>(operands_, input_, g_.in_channels)](int64_t image) mutable {
        sampler(first_image + image, 0, g_.in_channels, columns_.data() + image * depth_);
      };
    });
  }

  void multiply(int64_t first_image, int64_t images) {
    const int64_t blocks = ceil_div(g_.group_out(), kOutputs);
    run_tasks(g_.groups * blocks, [&] {
      return [&, sums = Buffer<T>({kOutputs, images})](int64_t task) {
        const int64_t group = task / blocks, first = task % blocks * kOutputs;
        const int64_t outs = std::min(kOutputs, g_.group_out() - first);
        const int64_t out = group * g_.group_out() + first;
        for (int64_t i = 0; i < outs; ++i) {
          std::fill_n(sums.data() + i * images, images, bias_ ? bias_[out + i] : T(0));
        }
        add_products(group, out, outs, images, sums.data());
        for (int64_t i = 0; i < outs; ++i) {
          store_rows(output_, {0, out + i, 1, first_image, images, g_.batch},
                     sums.data() + i * images, 1);
        }
      };
    });
  }

  // sums [outs, images] of a group's output channels from `out` on
  void add_products(int64_t group, int64_t out, int64_t outs, int64_t images, T* sums) const {
    const int64_t depth = g_.group_in() * g_.taps();
    for (int64_t k = 0; k < depth; k += kDepth) {
      kernels_.row_dots({
          .rows = outs,
          .columns = images,
          .depth = std::min(kDepth, depth - k),
          .a = weight_.at(out, 0) + k,
          .a_stride = weight_.stride(),
          .b = columns_.data() + group * depth + k,
          .b_stride = depth_,
          .c = sums,
          .c_stride = images,
      });
    }
  }

  const ConvOperands& operands_;
  const ConvGeometry& g_;
  const ChannelRows<T> input_;
  WeightMatrix<T> weight_;
  const T* bias_;
  const View output_;  // its pixels are the batch
  const Kernels<T>& kernels_ = kernels<T>();
  const int64_t depth_, images_;
  Buffer<T> columns_;  // [images, in_channels * taps]
};

}  // namespace

template <class T>
void conv_forward_one_pixel(const ConvOperands& operands, const T* bias, const View& output) {
  OnePixelForward<T>(operands, bias, output).run();
}

template void conv_forward_one_pixel<float>(const ConvOperands&, const float*, const View&);
template void conv_forward_one_pixel<double>(const ConvOperands&, const double*, const View&);

}  // namespace dcnv2::cpu
