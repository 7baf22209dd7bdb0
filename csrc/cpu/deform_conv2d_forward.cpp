// SPDX-License-Identifier: BSD-3-Clause
// output = bias + columns * weight. Each task samples the columns of some output pixels, as many
// taps at a time as a share of the cache holds, and multiplies them while they are there.
#include "conv_samples.h"

namespace dcnv2::cpu {
namespace {

// Columns of so many pixels, a multiple of the rows that a kernel keeps in registers, and of about
// so many elements are in the cache at once.
constexpr int64_t kPixels = 96;
constexpr int64_t kColumnElements = 1 << 16;

// The weight of every group in panels of output channels, each [taps, group_in, kPanel]; zeros
// where the last panel of a group has no channel.
template <class T>
class PackedWeight {
 public:
  PackedWeight(const ConvGeometry& g, const View& weight)
      : panels_(ceil_div(g.group_out(), kPanel<T>)),
        depth_(g.taps() * g.group_in()),
        data_({g.groups, panels_, depth_, kPanel<T>}) {
    run_tasks(g.groups * panels_, [&] {
      return [&](int64_t task) {
        const int64_t group = task / panels_, first = task % panels_ * kPanel<T>;
        const int64_t columns = std::min(kPanel<T>, g.group_out() - first);
        T* to = data_.data() + task * depth_ * kPanel<T>;
        std::fill_n(to, depth_ * kPanel<T>, T(0));
        // A view whose pixels are the taps, whose images are the input channels of the group, and
        // whose channels are the output channels, gives rows of output channels.
        View source = advance(weight, (group * g.group_out() + first) * weight.stride[0]);
        std::swap(source.stride[0], source.stride[1]);
        for (int64_t c = 0; c < g.group_in(); ++c) {
          load_rows(source, {c, 0, columns, 0, g.taps(), g.kernel_w}, to + c * kPanel<T>,
                    g.group_in() * kPanel<T>);
        }
      };
    });
  }

  int64_t panels() const { return panels_; }
  const T* panel(int64_t group, int64_t panel) const {
    return data_.data() + (group * panels_ + panel) * depth_ * kPanel<T>;
  }

 private:
  int64_t panels_, depth_;
  Buffer<T> data_;
};

template <class T>
class ForwardWorker {
 public:
  ForwardWorker(const ConvOperands& operands, const ChannelRows<T>& input,
                const PackedWeight<T>& weight, const T* bias, const View& output)
      : operands_(operands),
        g_(operands.g),
        input_(input),
        weight_(weight),
        bias_(bias),
        output_(output),
        taps_at_once_(std::clamp<int64_t>(kColumnElements / (kPixels * g_.in_channels), 1,
                                          g_.taps())),
        samples_(operands, kPixels, taps_at_once_),
        columns_({kPixels, taps_at_once_, g_.in_channels}),
        result_({kPixels, g_.out_channels}) {}

  void operator()(const OutPixels& pixels) {
    for (int64_t p = 0; p < pixels.count; ++p) {
      T* row = result_.data() + p * g_.out_channels;
      bias_ ? std::copy_n(bias_, g_.out_channels, row) : std::fill_n(row, g_.out_channels, T(0));
    }
    for (int64_t tap = 0; tap < g_.taps(); tap += taps_at_once_) {
      const int64_t taps = std::min(taps_at_once_, g_.taps() - tap);
      sample(pixels, tap, taps);
      multiply(pixels.count, tap, taps);
    }
    store_rows(output_,
               {pixels.image, 0, g_.out_channels, pixels.first, pixels.count, g_.out_width},
               result_.data(), g_.out_channels);
  }

 private:
  // columns [pixels, taps, in_channels]
  void sample(const OutPixels& pixels, int64_t tap, int64_t taps) {
    const int64_t channels = g_.deform_channels();
    for (int64_t d = 0; d < g_.deform_groups; ++d) {
      samples_.fill(pixels, d, tap, taps);
      const T* image = input_.image(pixels.image) + d * channels;
      for (int64_t p = 0; p < pixels.count; ++p) {
        T* to = columns_.data() + p * taps * g_.in_channels + d * channels;
        for (int64_t t = 0; t < taps; ++t) {
          sample_channels(kernels_, samples_.at(p, t), g_, image, input_.stride(), channels,
                          to + t * g_.in_channels);
        }
      }
    }
  }

  void multiply(int64_t pixels, int64_t tap, int64_t taps) {
    // With one group the taps of a column are one long row; else each tap is a product of its own.
    const int64_t products = g_.groups == 1 ? 1 : taps;
    PanelProduct<T> product{};
    product.rows = pixels;
    product.depth = g_.groups == 1 ? taps * g_.in_channels : g_.group_in();
    product.a_stride = taps * g_.in_channels;
    product.c_stride = g_.out_channels;
    product.accumulate = true;
    for (int64_t group = 0; group < g_.groups; ++group) {
      for (int64_t panel = 0; panel < weight_.panels(); ++panel) {
        const int64_t first = panel * kPanel<T>;
        product.columns = std::min(kPanel<T>, g_.group_out() - first);
        product.c = result_.data() + group * g_.group_out() + first;
        for (int64_t t = 0; t < products; ++t) {
          product.a = columns_.data() + t * g_.in_channels + group * g_.group_in();
          product.b = weight_.panel(group, panel) + (tap + t) * g_.group_in() * kPanel<T>;
          kernels_.panel_product(product);
        }
      }
    }
  }

  const ConvOperands& operands_;
  const ConvGeometry& g_;
  const ChannelRows<T>& input_;
  const PackedWeight<T>& weight_;
  const T* bias_;
  const View& output_;
  const Kernels<T>& kernels_ = kernels<T>();
  const int64_t taps_at_once_;
  SampleTable<T> samples_;
  Buffer<T> columns_, result_;
};

}  // namespace

template <class T>
void conv_forward(const ConvOperands& operands, const View& bias, const View& output) {
  const ConvGeometry& g = operands.g;
  const ChannelRows<T> input(operands.input, {g.batch, g.in_channels, g.height, g.width});
  const PackedWeight<T> weight(g, operands.weight);
  Buffer<T> bias_row({bias ? g.out_channels : 0});
  if (bias) load_rows(bias, {0, 0, g.out_channels, 0, 1, 1}, bias_row.data(), g.out_channels);

  const int64_t image_pixels = g.out_height * g.out_width, chunks = ceil_div(image_pixels, kPixels);
  run_tasks(g.batch * chunks, [&] {
    return [&, worker = ForwardWorker<T>(operands, input, weight, bias_row.data(), output)](
               int64_t task) mutable {
      const int64_t first = task % chunks * kPixels;
      worker({task / chunks, first, std::min(kPixels, image_pixels - first)});
    };
  });
}

template void conv_forward<float>(const ConvOperands&, const View&, const View&);
template void conv_forward<double>(const ConvOperands&, const View&, const View&);

}  // namespace dcnv2::cpu
