// SPDX-License-Identifier: BSD-3-Clause
// output = bias + columns * weight. Each task samples the columns of some output pixels, for as
// many taps at a time as fit a share of the cache, and multiplies them while they are in the cache.
#include "cpu/conv/one_pixel.h"

namespace dcnv2::cpu {
namespace {

// Limits of the columns in the cache: pixels, a multiple of the rows that a kernel keeps in
// registers, and elements.
constexpr int64_t kMostPixels = 96;
constexpr int64_t kColumnElements = 1 << 16;
constexpr int64_t kPackedRows = 128;  // of the weight, sorted at once: they stay in the first cache

// Small maps are cut finer, so that every thread has work. The terms of an output and their order
// do not depend on it.
int64_t pixels_at_once(const ConvGeometry& g) {
  return g.out_pixels() >= 64 * kMostPixels ? kMostPixels : kMostPixels / 2;
}

// Columns are stored in blocks [pixels, deform channels], one for each deform group and tap, so the
// elements of a column are ordered by deform group, tap and channel, as is the weight. If there are
// too many columns for the cache, taps are processed in several rounds.
template <class T>
int64_t taps_at_once(const ConvGeometry& g) {
  return std::clamp<int64_t>(kColumnElements / (kMostPixels * g.in_channels), 1, g.taps());
}

// The weight of every group in panels of output channels, each [taps * group_in, kPanel] in rounds
// of taps; zeros where the last panel of a group has no channel.
template <class T>
class PackedWeight {
 public:
  PackedWeight(const ConvGeometry& g, const View& weight)
      : g_(g),
        panels_(ceil_div(g.group_out(), kPanel<T>)),
        depth_(g.taps() * g.group_in()),
        taps_at_once_(taps_at_once<T>(g)),
        data_({g.groups, panels_, depth_, kPanel<T>}) {
    run_tasks(g.groups * panels_, [&] {
      return [&](int64_t task) {
        T* to = data_.data() + task * depth_ * kPanel<T>;
        std::fill_n(to, depth_ * kPanel<T>, T(0));
        pack(weight, task / panels_, task % panels_ * kPanel<T>, to);
      };
    });
  }

  int64_t panels() const { return panels_; }
  const T* panel(int64_t group, int64_t panel) const {
    return data_.data() + (group * panels_ + panel) * depth_ * kPanel<T>;
  }

 private:
  // Up to kPanel output channels of a group.
  void pack(const View& weight, int64_t group, int64_t first, T* to) const {
    const int64_t columns = std::min(kPanel<T>, g_.group_out() - first);
    const int64_t begin = group * g_.group_in();
    const View rows = advance(weight, (group * g_.group_out() + first) * weight.stride[0]);
    const bool dense =
        weight.stride[3] == 1 && weight.stride[2] == g_.kernel_w && weight.stride[1] == g_.taps();
    for (const ChannelSpan& span :
         cut_by_group(begin, begin + g_.group_in(), g_.deform_channels())) {
      const ChannelSpan channels{span.begin - begin, span.end - begin, group};
      dense ? pack_dense(rows, channels, columns, to) : pack_strided(rows, channels, columns, to);
    }
  }

  // The row of a tap's first channel in a span of the group's channels.
  int64_t row(int64_t tap, const ChannelSpan& channels) const {
    const int64_t first = tap / taps_at_once_ * taps_at_once_;
    const int64_t taps = std::min(taps_at_once_, g_.taps() - first);
    return first * g_.group_in() + channels.begin * taps + (tap - first) * channels.size();
  }

  // `rows` begins at the first output channel.
  void pack_strided(const View& rows, const ChannelSpan& channels, int64_t columns, T* to) const {
    for (int64_t tap = 0; tap < g_.taps(); ++tap) {
      // A view whose pixels are the input channels and whose channels are the output channels.
      View source =
          advance(rows, tap / g_.kernel_w * rows.stride[2] + tap % g_.kernel_w * rows.stride[3]);
      source.stride[1] = rows.stride[0];
      source.stride[2] = rows.stride[1] * g_.group_in();
      source.stride[3] = rows.stride[1];
      load_rows(source, {0, 0, columns, channels.begin, channels.size(), g_.group_in()},
                to + row(tap, channels) * kPanel<T>, kPanel<T>);
    }
  }

  // The same if the weights of an output channel are contiguous: the taps of its channels are read
  // in memory order, some at a time, and then sorted.
  void pack_dense(const View& rows, const ChannelSpan& channels, int64_t columns, T* to) const {
    const int64_t taps = g_.taps(), at_once = std::max<int64_t>(kPackedRows / taps, 1);
    Buffer<T> found({at_once * taps, kPanel<T>});
    View source = rows;
    source.stride[1] = rows.stride[0];
    for (int64_t c = channels.begin; c < channels.end; c += at_once) {
      const int64_t count = std::min(at_once, channels.end - c);
      load_rows(source, {0, 0, columns, c * taps, count * taps, g_.group_in() * taps}, found.data(),
                kPanel<T>);
      for (int64_t tap = 0; tap < taps; ++tap) {
        T* target = to + (row(tap, channels) + c - channels.begin) * kPanel<T>;
        for (int64_t i = 0; i < count; ++i) {
          std::copy_n(found.data() + (i * taps + tap) * kPanel<T>, columns, target + i * kPanel<T>);
        }
      }
    }
  }

  const ConvGeometry& g_;
  int64_t panels_, depth_, taps_at_once_;
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
        taps_at_once_(taps_at_once<T>(g_)),
        column_stride_(row_stride<T>(g_.deform_channels())),
        samples_(operands, kMostPixels, operands.g.taps()),
        columns_({g_.deform_groups, taps_at_once_, kMostPixels, column_stride_}),
        result_({kMostPixels, g_.out_channels}) {}

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
  // columns [deform_groups, taps, pixels, column_stride]
  void sample(const OutPixels& pixels, int64_t first_tap, int64_t taps) {
    const int64_t channels = g_.deform_channels();
    T* to = columns_.data();
    for (int64_t d = 0; d < g_.deform_groups; ++d) {
      const ImageRows<const T> image = image_rows(input_, g_, pixels.image, d * channels);
      for (int64_t t = 0; t < taps; ++t, to += pixels.count * column_stride_) {
        samples_.locate(pixels, d, first_tap + t);
        sample_columns(samples_, g_, image, channels, to, column_stride_);
      }
    }
  }

  void multiply(int64_t pixels, int64_t first_tap, int64_t taps) {
    const int64_t channels = g_.deform_channels();
    PanelProduct<T> product{};
    product.rows = pixels;
    product.a_stride = column_stride_;
    product.a_block = pixels * column_stride_;
    product.c_stride = g_.out_channels;
    product.accumulate = true;
    for (int64_t group = 0; group < g_.groups; ++group) {
      const int64_t begin = group * g_.group_in(), end = begin + g_.group_in();
      // Whole deform groups are one product, else each part of one.
      const bool whole = begin % channels == 0 && end % channels == 0;
      for (const ChannelSpan& span : cut_by_group(begin, end, whole ? end : channels)) {
        const int64_t d = span.begin / channels;
        product.depth = std::min(span.size(), channels);
        product.blocks = span.size() / product.depth * taps;
        product.a = columns_.data() + d * taps * product.a_block + span.begin - d * channels;
        multiply_panels(product, group, first_tap * g_.group_in() + (span.begin - begin) * taps);
      }
    }
  }

  // A product with all panels of a group, from `row` of theirs on.
  void multiply_panels(PanelProduct<T> product, int64_t group, int64_t row) {
    for (int64_t panel = 0; panel < weight_.panels(); ++panel) {
      const int64_t first = panel * kPanel<T>;
      product.columns = std::min(kPanel<T>, g_.group_out() - first);
      product.b = weight_.panel(group, panel) + row * kPanel<T>;
      product.c = result_.data() + group * g_.group_out() + first;
      kernels_.panel_product(product);
    }
  }

  const ConvOperands& operands_;
  const ConvGeometry& g_;
  const ChannelRows<T>& input_;
  const PackedWeight<T>& weight_;
  const T* bias_;
  const View& output_;
  const Kernels<T>& kernels_ = kernels<T>();
  const int64_t taps_at_once_, column_stride_;
  TapSamples<T> samples_;
  Buffer<T> columns_, result_;
};

}  // namespace

template <class T>
void conv_forward(const ConvOperands& operands, const View& bias, const View& output) {
  const ConvGeometry& g = operands.g;
  Buffer<T> bias_row({bias ? g.out_channels : 0});
  if (bias) load_rows(bias, {0, 0, g.out_channels, 0, 1, 1}, bias_row.data(), g.out_channels);
  if (one_pixel(g)) {
    return conv_forward_one_pixel<T>(operands, bias_row.data(), output);
  }
  const ChannelRows<T> input = rows_of_input<T>(operands);
  const PackedWeight<T> weight(g, operands.weight);

  const int64_t image_pixels = g.out_height * g.out_width, at_once = pixels_at_once(g);
  const int64_t ranges = ceil_div(image_pixels, at_once);
  run_tasks(g.batch * ranges, [&] {
    return [&, worker = ForwardWorker<T>(operands, input, weight, bias_row.data(), output)](
               int64_t task) mutable {
      const int64_t first = task % ranges * at_once;
      worker({task / ranges, first, std::min(at_once, image_pixels - first)});
    };
  });
}

template void conv_forward<float>(const ConvOperands&, const View&, const View&);
template void conv_forward<double>(const ConvOperands&, const View&, const View&);

}  // namespace dcnv2::cpu
