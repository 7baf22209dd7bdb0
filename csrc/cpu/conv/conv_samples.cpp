// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/conv/conv_samples.h"

namespace dcnv2::cpu {

template <class T>
TapSamples<T>::TapSamples(const ConvOperands& operands, int64_t most_pixels, int64_t taps_per_copy)
    : operands_(operands),
      columns_({operands.g.kernel_w, operands.g.out_width}),
      taps_per_copy_(std::min(taps_per_copy, operands.g.taps())),
      ones_({most_pixels}),
      numbers_({6, most_pixels}),
      corners_({2, most_pixels}),
      border_({most_pixels}) {
  T* numbers = numbers_.data();
  run_ = {0,          corners_.data(),       corners_.data() + most_pixels,
          numbers,    numbers + most_pixels, numbers + 2 * most_pixels,
          most_pixels};
  const ConvGeometry& g = operands.g;
  for (int64_t i = 0; i < g.kernel_w * g.out_width; ++i) {
    columns_[i] = T(g.tap_x(i % g.out_width, i / g.out_width));
  }
  std::fill_n(ones_.data(), most_pixels, T(1));
}

template <class T>
void TapSamples<T>::locate(const OutPixels& pixels, int64_t deform_group, int64_t tap) {
  const ConvGeometry& g = operands_.g;
  const int64_t channel = deform_group * g.taps() + tap, most = run_.weight_stride;
  const T* offset_y = plane(operands_.offset, 2 * channel, pixels);
  const T* offset_x = plane(operands_.offset, 2 * channel + 1, pixels);
  mask_ = operands_.mask ? plane(operands_.mask, channel, pixels) : ones_.data();
  if (!offset_y || !mask_) {
    const T* planes = copied(pixels, deform_group, tap);
    const int64_t within = tap % taps_per_copy_;
    if (!offset_y) {
      offset_y = planes + 2 * within * most;
      offset_x = offset_y + most;
    }
    if (!mask_) mask_ = planes + (2 * taps_per_copy_ + within) * most;
  }

  run_.count = pixels.count;
  int64_t out_y = pixels.first / g.out_width, out_x = pixels.first % g.out_width;
  for (int64_t done = 0; done < pixels.count; ++out_y, out_x = 0) {
    const int64_t count = std::min(g.out_width - out_x, pixels.count - done);
    const T* column = columns_.data() + tap % g.kernel_w * g.out_width + out_x;
    kernels<T>().locate({count, g.height, g.width, T(g.tap_y(out_y, tap)), column, offset_y + done,
                         offset_x + done, mask_ + done},
                        run_, done);
    done += count;
  }
  borders_ = 0;
  constexpr int64_t kBlock = 16;  // nearly always has none
  for (int64_t first = 0; first < pixels.count; first += kBlock) {
    const int64_t last = std::min(first + kBlock, pixels.count);
    int signs = 0;
    for (int64_t p = first; p < last; ++p) signs |= run_.y[p];
    for (int64_t p = first; signs < 0 && p < last; ++p) {
      border_[borders_] = int(p);
      borders_ += run_.y[p] < 0;
    }
  }
}

// Some pixels of a channel in the tensor's memory, or null if they are not contiguous.
template <class T>
const T* TapSamples<T>::plane(const View& view, int64_t channel, const OutPixels& pixels) const {
  const int64_t width = operands_.g.out_width;
  if (view.dtype == kDtypeOf<T> && view.stride[3] == 1 && view.stride[2] == width) {
    const T* first = static_cast<const T*>(view.data) + pixels.image * view.stride[0] +
                     channel * view.stride[1] + pixels.first;
    // The next tap is the next plane of a mask, and the one after the next of the offsets.
    const T* next = first + (&view == &operands_.mask ? 1 : 2) * view.stride[1];
    for (int64_t p = 0; p < pixels.count; p += 64 / int64_t(sizeof(T))) {
      __builtin_prefetch(next + p);
    }
    return first;
  }
  return nullptr;
}

// The copy of a deform group, filled with all taps that are copied with `tap`.
template <class T>
const T* TapSamples<T>::copied(const OutPixels& pixels, int64_t deform_group, int64_t tap) {
  const ConvGeometry& g = operands_.g;
  const int64_t most = run_.weight_stride;
  if (slots_.empty()) {  // nobody works on more groups than a panel has channels before the next
    const int64_t slots = std::min(g.deform_groups, kPanel<T>);
    slots_.resize(slots, {{-1, 0, 0}, 0, 0});
    copies_ = Buffer<T>({slots, 3 * taps_per_copy_, most});
  }
  const int64_t number = deform_group % int64_t(slots_.size());
  const int64_t first_tap = tap / taps_per_copy_ * taps_per_copy_;
  T* planes = copies_.data() + number * 3 * taps_per_copy_ * most;
  Slot& slot = slots_[number];
  if (slot.pixels.image == pixels.image && slot.pixels.first == pixels.first &&
      slot.deform_group == deform_group && slot.first_tap == first_tap) {
    return planes;
  }
  slot = {pixels, deform_group, first_tap};
  const int64_t channel = deform_group * g.taps() + first_tap;
  const int64_t taps = std::min(taps_per_copy_, g.taps() - first_tap);
  load_planes(operands_.offset,
              {pixels.image, 2 * channel, 2 * taps, pixels.first, pixels.count, g.out_width},
              planes, most);
  if (operands_.mask) {
    load_planes(operands_.mask,
                {pixels.image, channel, taps, pixels.first, pixels.count, g.out_width},
                planes + 2 * taps_per_copy_ * most, most);
  }
  return planes;
}

namespace {

// out[c] = one modulated sample; NaN if its position is, and 0 off the map.
template <class T>
void sample_channels(const ModulatedSample<T>& sample, const ConvGeometry& g,
                     const ImageRows<const T>& image, int64_t channels, T* out) {
  if (sample.place.nan) {
    std::fill_n(out, channels, std::numeric_limits<T>::quiet_NaN());
    return;
  }
  const ValidCorners<T> corners = valid_corners(sample.place, g);
  if (corners.count == 0) {
    std::fill_n(out, channels, sample.mask * T(0));
    return;
  }
  const T* rows[4];
  T weights[4];
  for (int i = 0; i < corners.count; ++i) {
    rows[i] = image.data + corners.index[i] * image.x_stride;
    weights[i] = corners.weight[i] * sample.mask;
  }
  kernels<T>().weighted_sum(rows, weights, corners.count, channels, out);
}

}  // namespace

template <class T>
void sample_columns(const TapSamples<T>& samples, const ConvGeometry& g,
                    const ImageRows<const T>& image, int64_t channels, T* out, int64_t out_stride) {
  kernels<T>().sample_rows(samples.run(), image, channels, out, out_stride);
  for (const int p : samples.border()) {
    sample_channels(samples.at(p), g, image, channels, out + p * out_stride);
  }
}

template class TapSamples<float>;
template class TapSamples<double>;
template void sample_columns<float>(const TapSamples<float>&, const ConvGeometry&,
                                    const ImageRows<const float>&, int64_t, float*, int64_t);
template void sample_columns<double>(const TapSamples<double>&, const ConvGeometry&,
                                     const ImageRows<const double>&, int64_t, double*, int64_t);

}  // namespace dcnv2::cpu
