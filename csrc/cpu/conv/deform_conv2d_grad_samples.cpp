// SPDX-License-Identifier: BSD-3-Clause
// The gradients that go through the samples: computes column gradients = grad_output * weight for
// some pixels and channels, then passes them to grad_input and grad_offset_mask. A task owns an
// image, or some of few pixels, and a slice of their channels.
#include "cpu/conv/few_pixels_grad_columns.h"
#include "cpu/conv/packed_grad_columns.h"

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

template <class T, class Columns>
class GradSamplesWorker {
 public:
  GradSamplesWorker(const ConvOperands& operands, const GradOffsetMask<T>& grad_place,
                    const SampleGrads& grads, Columns columns)
      : g_(operands.g),
        input_(operands, grads.offset || grads.mask ? channels_at_once<T>(g_.in_channels) : 0),
        grad_place_(grad_place),
        grads_(grads),
        columns_(std::move(columns)),
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
  const GradOffsetMask<T>& grad_place_;
  const SampleGrads& grads_;
  Columns columns_;
  TapSamples<T> samples_;
  Buffer<T> scratch_;
  GradInput<T> grad_input_;
};

// `make_columns()` returns the Columns of a thread; a task has up to `images` images.
template <class T, class MakeColumns>
void run_slices(const ConvOperands& operands, const SampleGrads& grads,
                const std::vector<ChannelSlice>& slices, int64_t images,
                const MakeColumns& make_columns) {
  const ConvGeometry& g = operands.g;
  std::vector<ChannelSpan> spans;
  for (const ChannelSlice& slice : slices) {
    spans.insert(spans.end(), slice.spans.begin(), slice.spans.end());
  }
  const GradOffsetMask<T> grad_place(g, spans, grads.offset, grads.mask);
  const int64_t number = int64_t(slices.size());
  run_tasks(ceil_div(g.batch, images) * number, [&] {
    return [&, worker = GradSamplesWorker<T, decltype(make_columns())>(
                   operands, grad_place, grads, make_columns())](int64_t task) mutable {
      const int64_t first = task / number * images;
      worker(first, std::min(images, g.batch - first), slices[task % number]);
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
  if (few_pixels(g)) {
    WeightMatrix<T> weight(g, operands.weight);
    weight.load();
    run_slices<T>(operands, grads, slices, FewPixelsGradColumns<T>::images(g),
                  [&] { return FewPixelsGradColumns<T>(g, grad_output, weight); });
    return;
  }
  const PackedWeight<T> weight(g, operands.weight, slices);
  run_slices<T>(operands, grads, slices, 1,
                [&] { return PackedGradColumns<T>(g, grad_output, weight); });
}

template void conv_grad_samples<float>(const ConvOperands&, const View&, const SampleGrads&);
template void conv_grad_samples<double>(const ConvOperands&, const View&, const SampleGrads&);

}  // namespace dcnv2::cpu
