// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/conv/few_pixels.h"

namespace dcnv2::cpu {

template <class T>
WeightMatrix<T>::WeightMatrix(const ConvGeometry& g, const View& weight)
    : g_(g), weight_(weight), dense_(false) {
  const int64_t sizes[3] = {g.group_in(), g.kernel_h, g.kernel_w};
  const int64_t strides[3] = {g.taps(), g.kernel_w, 1};
  for (int axis = 0; axis < 3; ++axis) {
    if (sizes[axis] > 1 && weight.stride[axis + 1] != strides[axis]) return;
  }
  dense_ = true;
  std::copy_n(strides, 3, weight_.stride + 1);  // where an axis has one element
}

template <class T>
MatrixRows<T> WeightMatrix<T>::in_place(const WeightBlock& block) const {
  if (!dense_ || weight_.dtype != kDtypeOf<T>) return {nullptr, 0};
  T* first = static_cast<T*>(weight_.data) + block.out * weight_.stride[0];
  return {first + block.channel * g_.taps(), weight_.stride[0]};
}

template <class T>
PixelRange WeightMatrix<T>::run(const WeightBlock& block, int64_t row) const {
  const int64_t taps = g_.taps();
  return {block.out + row,       0, 1, block.channel * taps, block.channels * taps,
          g_.group_in() * taps};
}

template <class T>
void WeightMatrix<T>::load(const WeightBlock& block, const MatrixRows<T>& rows) const {
  const int64_t taps = g_.taps();
  for (int64_t i = 0; i < block.outs; ++i) {
    T* row = rows.data + i * rows.stride;
    if (dense_) {
      load_rows(weight_, run(block, i), row, 1);
    } else {
      load_planes(weight_, {block.out + i, block.channel, block.channels, 0, taps, g_.kernel_w},
                  row, taps);
    }
  }
}

template <class T>
void WeightMatrix<T>::store(const WeightBlock& block, const MatrixRows<const T>& rows,
                            T* scratch) const {
  const int64_t taps = g_.taps();
  for (int64_t i = 0; i < block.outs; ++i) {
    const T* row = rows.data + i * rows.stride;
    if (dense_) {
      store_rows(weight_, run(block, i), row, 1);
      continue;
    }
    for (int64_t j = 0; j < block.channels * taps; ++j) {
      scratch[j % taps * block.channels + j / taps] = row[j];
    }
    store_rows(weight_, {block.out + i, block.channel, block.channels, 0, taps, g_.kernel_w},
               scratch, block.channels);
  }
}

template <class T>
WeightReader<T>::WeightReader(const ConvGeometry& g, const View& weight, int64_t most_outs,
                              int64_t most_channels, bool whole_vectors)
    : matrix_(g, weight),
      taps_(g.taps()),
      stride_(padded<T>(most_channels * taps_)),
      whole_vectors_(whole_vectors),
      copy_({most_outs, stride_}) {
  std::fill_n(copy_.data(), most_outs * stride_, T(0));
}

template <class T>
MatrixRows<const T> WeightReader<T>::operator()(const WeightBlock& block) {
  if (!whole_vectors_ || block.channels * taps_ % kVectorColumns<T> == 0) {
    if (const MatrixRows<T> rows = matrix_.in_place(block); rows.data) {
      return {rows.data, rows.stride};
    }
  }
  matrix_.load(block, {copy_.data(), stride_});
  return {copy_.data(), stride_};
}

template <class T>
SliceSampler<T>::SliceSampler(const ConvOperands& operands, const ChannelRows<T>& input)
    : g_(operands.g),
      input_(input),
      samples_(operands, kFewPixels, operands.g.taps()),
      rows_({operands.g.taps(), pixels_of_image(operands.g), kPanel<T>}) {}

template <class T>
void SliceSampler<T>::operator()(int64_t image, int64_t begin, int64_t end,
                                 const MatrixRows<T>& columns) {
  const OutPixels pixels{image, 0, pixels_of_image(g_)};
  for (const ChannelSpan& span : cut_by_group(begin, end, g_.deform_channels())) {
    const ImageRows<const T> source = image_rows(input_, g_, image, span.begin);
    for (int64_t tap = 0; tap < g_.taps(); ++tap) {
      samples_.locate(pixels, span.group, tap);
      sample_columns(samples_, g_, source, span.size(),
                     rows_.data() + tap * pixels.count * kPanel<T> + span.begin - begin, kPanel<T>);
    }
  }
  for (int64_t p = 0; p < pixels.count; ++p) {
    store_rows(taps_of_pixel(g_, columns.data + p * columns.stride),
               {0, 0, end - begin, 0, g_.taps(), g_.taps()}, rows_.data() + p * kPanel<T>,
               pixels.count * kPanel<T>);
  }
}

template class WeightMatrix<float>;
template class WeightMatrix<double>;
template class WeightReader<float>;
template class WeightReader<double>;
template class SliceSampler<float>;
template class SliceSampler<double>;

}  // namespace dcnv2::cpu
