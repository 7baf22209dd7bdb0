// SPDX-License-Identifier: BSD-3-Clause
// The gradients that go through the samples: computes column gradients = grad_output * weight for
// some pixels and channels, then passes them to grad_input and grad_offset_mask. A task owns an
// image, or some of one pixel, and a slice of their channels.
#include "cpu/conv/one_pixel_grad_columns.h"

namespace dcnv2::cpu {
namespace {

template <class T>
std::vector<ChannelSlice> make_slices(const ConvGeometry& g) {
  std::vector<ChannelSlice> slices;
  int64_t spans = 0, parts = 0;
  const int64_t width = channels_at_once<T>(g.in_channels);
  for (int64_t begin = 0; begin < g.in_channels; begin += width) {
    const int64_t end = std::min(begin + width, g.in_channels);
    slices.push_back({begin, end, cut_by_group(begin, end, g.deform_channels()),
                      cut_by_group(begin, end, g.group_in()), spans, parts});
    spans += slices.back().spans.size();
    parts += slices.back().parts.size();
  }
  return slices;
}

// For every part of every slice and every tap a panel of input channels [group_out, kPanel], zeros
// beyond the part's channels.
template <class T>
class PackedWeight {
 public:
  PackedWeight(const ConvGeometry& g, const View& weight, const std::vector<ChannelSlice>& slices)
      : taps_(g.taps()),
        panel_size_(g.group_out() * kPanel<T>),
        data_(
            {slices.back().first_part + int64_t(slices.back().parts.size()), taps_, panel_size_}) {
    run_tasks(slices.size(), [&] {
      return [&](int64_t task) {
        int64_t number = slices[task].first_part;
        for (const ChannelSpan& part : slices[task].parts) pack(g, weight, part, number++);
      };
    });
  }

  const T* panel(int64_t part, int64_t tap) const {
    return data_.data() + (part * taps_ + tap) * panel_size_;
  }

 private:
  void pack(const ConvGeometry& g, const View& weight, const ChannelSpan& part, int64_t number) {
    T* to = data_.data() + number * taps_ * panel_size_;
    std::fill_n(to, taps_ * panel_size_, T(0));
    for (int64_t o = 0; o < g.group_out(); ++o) {
      load_rows(weight,
                {part.group * g.group_out() + o, part.begin - part.group * g.group_in(),
                 part.size(), 0, taps_, g.kernel_w},
                to + o * kPanel<T>, panel_size_);
    }
  }

  int64_t taps_, panel_size_;
  Buffer<T> data_;
};

template <class T>
class PackedGradColumns {
 public:
  using Weight = PackedWeight<T>;
  // Pixels at once: a multiple of the rows that a kernel keeps in registers; at one tap they fit
  // the L1 cache.
  static constexpr int64_t kPixels = 96;
  static constexpr int64_t kImages = 1;  // of a task

  PackedGradColumns(const ConvGeometry& g, const View& grad_output, const Weight& weight)
      : g_(g),
        grad_output_(grad_output, {g.batch, g.out_channels, g.out_height, g.out_width}, kPixels),
        weight_(weight),
        columns_({kPixels, kPanel<T>}) {}

  // A task, then some pixels of its image.
  void begin(int64_t, int64_t, const ChannelSlice& slice) { slice_ = &slice; }
  void begin(const OutPixels& pixels) {
    pixels_ = pixels.count;
    grad_ = grad_output_.rows(pixels.image, pixels.first, pixels.count);
  }

  // [pixels, kPanel], valid until the next call.
  const T* tap(int64_t tap) {
    int64_t number = slice_->first_part;
    for (const ChannelSpan& part : slice_->parts) {
      PanelProduct<T> product{};
      product.rows = pixels_;
      product.columns = part.size();
      product.depth = g_.group_out();
      product.blocks = 1;
      product.a = grad_ + part.group * g_.group_out();
      product.a_stride = grad_output_.stride();
      product.b = weight_.panel(number++, tap);
      product.c = columns_.data() + part.begin - slice_->begin;
      product.c_stride = kPanel<T>;
      kernels_.panel_product(product);
    }
    return columns_.data();
  }

 private:
  const ConvGeometry& g_;
  PixelRows<T> grad_output_;
  const Weight& weight_;
  const Kernels<T>& kernels_ = kernels<T>();
  Buffer<T> columns_;
  const ChannelSlice* slice_ = nullptr;
  int64_t pixels_ = 0;
  const T* grad_ = nullptr;  // [pixels, out_channels]
};

// The input's rows of channels in one slice of one image: the tensor's memory if it has that form,
// otherwise a copy with one channel block for each span.
template <class T>
class SliceRows {
 public:
  SliceRows(const ConvOperands& operands, int64_t most_channels)
      : g_(operands.g),
        view_(operands.input),
        in_place_(view_, {g_.batch, g_.in_channels, g_.height, g_.width}),
        copy_({g_.height, g_.width, in_place_ ? 0 : most_channels}) {}

  void begin(int64_t image, const ChannelSlice& slice) {
    image_ = image;
    first_ = slice.begin;
    if (in_place_) return;
    const int64_t pixels = g_.height * g_.width;
    for (const ChannelSpan& span : slice.spans) {
      load_rows(view_, {image, span.begin, span.size(), 0, pixels, g_.width},
                copy_.data() + (span.begin - first_) * pixels, span.size());
    }
  }

  ImageRows<const T> span(const ChannelSpan& span) const {
    if (in_place_) {
      const int64_t stride = in_place_.pixel_stride;
      return {in_place_.data + image_ * in_place_.image_stride + span.begin, g_.width * stride,
              stride};
    }
    return {copy_.data() + (span.begin - first_) * g_.height * g_.width, g_.width * span.size(),
            span.size()};
  }

 private:
  const ConvGeometry& g_;
  const View& view_;
  RowsInPlace<T> in_place_;
  Buffer<T> copy_;
  int64_t image_ = 0, first_ = 0;
};

// `Columns` computes the gradient of the columns of a task.
template <class T, class Columns>
class GradSamplesWorker {
 public:
  GradSamplesWorker(const ConvOperands& operands, const View& grad_output,
                    const typename Columns::Weight& weight, const GradOffsetMask<T>& grad_place,
                    const SampleGrads& grads)
      : g_(operands.g),
        input_(operands, grads.offset || grads.mask ? channels_at_once<T>(g_.in_channels) : 0),
        columns_(g_, grad_output, weight),
        grad_place_(grad_place),
        grads_(grads),
        samples_(operands, Columns::kPixels, operands.g.taps()),
        scratch_({7, Columns::kPixels}),
        grad_input_(g_, grads.input ? channels_at_once<T>(g_.in_channels) : 0) {}

  void operator()(int64_t first_image, int64_t images, const ChannelSlice& slice) {
    columns_.begin(first_image, images, slice);
    for (int64_t image = first_image; image < first_image + images; ++image) {
      if (grads_.input) grad_input_.begin(slice.end - slice.begin);
      if (grads_.offset || grads_.mask) input_.begin(image, slice);
      hand_out(image, slice);
      if (grads_.input) grad_input_.store(grads_.input, image, slice.begin);
    }
  }

 private:
  void hand_out(int64_t image, const ChannelSlice& slice) {
    const int64_t image_pixels = g_.out_height * g_.out_width;
    for (int64_t first = 0; first < image_pixels; first += Columns::kPixels) {
      const OutPixels pixels{image, first, std::min(Columns::kPixels, image_pixels - first)};
      columns_.begin(pixels);
      for (int64_t tap = 0; tap < g_.taps(); ++tap) {
        hand_out({pixels, tap, columns_.tap(tap)}, slice);
      }
    }
  }

  void hand_out(const GradColumns<T>& columns, const ChannelSlice& slice) {
    int64_t number = slice.first_span;
    for (const ChannelSpan& span : slice.spans) {
      const int64_t offset = span.begin - slice.begin;
      samples_.locate(columns.pixels, span.group, columns.tap);
      if (grads_.offset || grads_.mask) {
        grad_place_.add(columns, samples_, number, offset, input_.span(span), scratch_.data());
      }
      if (grads_.input) grad_input_.add(columns, samples_, span, offset);
      ++number;
    }
  }

  const ConvGeometry& g_;
  SliceRows<T> input_;
  Columns columns_;
  const GradOffsetMask<T>& grad_place_;
  const SampleGrads& grads_;
  TapSamples<T> samples_;
  Buffer<T> scratch_;
  GradInput<T> grad_input_;
};

template <class T, class Columns>
void run_slices(const ConvOperands& operands, const View& grad_output, const SampleGrads& grads,
                const std::vector<ChannelSlice>& slices, const typename Columns::Weight& weight) {
  const ConvGeometry& g = operands.g;
  std::vector<ChannelSpan> spans;
  for (const ChannelSlice& slice : slices) {
    spans.insert(spans.end(), slice.spans.begin(), slice.spans.end());
  }
  const GradOffsetMask<T> grad_place(g, spans, grads.offset, grads.mask);
  const int64_t number = int64_t(slices.size());
  run_tasks(ceil_div(g.batch, Columns::kImages) * number, [&] {
    return [&, worker = GradSamplesWorker<T, Columns>(operands, grad_output, weight, grad_place,
                                                      grads)](int64_t task) mutable {
      const int64_t first = task / number * Columns::kImages;
      worker(first, std::min(Columns::kImages, g.batch - first), slices[task % number]);
    };
  });
  grad_place.finish();
}

}  // namespace

template <class T>
void conv_grad_samples(const ConvOperands& operands, const View& grad_output,
                       const SampleGrads& grads) {
  const ConvGeometry& g = operands.g;
  const std::vector<ChannelSlice> slices = make_slices<T>(g);
  if (one_pixel(g)) {
    WeightMatrix<T> weight(g, operands.weight);
    weight.load();
    run_slices<T, OnePixelGradColumns<T>>(operands, grad_output, grads, slices, weight);
  } else {
    const PackedWeight<T> weight(g, operands.weight, slices);
    run_slices<T, PackedGradColumns<T>>(operands, grad_output, grads, slices, weight);
  }
}

template void conv_grad_samples<float>(const ConvOperands&, const View&, const SampleGrads&);
template void conv_grad_samples<double>(const ConvOperands&, const View&, const SampleGrads&);

}  // namespace dcnv2::cpu
