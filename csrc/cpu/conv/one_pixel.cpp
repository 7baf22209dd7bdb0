// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/conv/one_pixel.h"

namespace dcnv2::cpu {

template <class T>
WeightMatrix<T>::WeightMatrix(const ConvGeometry& g, const View& weight)
    : g_(g), weight_(weight), data_(static_cast<T*>(weight.data)), stride_(weight.stride[0]) {
  const int64_t sizes[3] = {g.group_in(), g.kernel_h, g.kernel_w};
  const int64_t strides[3] = {g.taps(), g.kernel_w, 1};
  for (int axis = 0; axis < 3; ++axis) {
    dense_ &= sizes[axis] == 1 || weight.stride[axis + 1] == strides[axis];
  }
  const int64_t columns = g.group_in() * g.taps();
  // All parts of a row then consist of whole vectors, and nothing is read past the tensor.
  const bool whole = columns % kVectorColumns<T> == 0;
  if (dense_ && whole && weight.dtype == kDtypeOf<T>) return;
  copy_ = Buffer<T>({g.out_channels * columns + kVectorColumns<T>});
  std::fill_n(copy_.data() + g.out_channels * columns, kVectorColumns<T>, T(0));
  data_ = copy_.data();
  stride_ = columns;
}

template <class T>
void WeightMatrix<T>::load() {
  if (!copy_.data()) return;
  run_tasks(g_.out_channels, [&] {
    return [&](int64_t out) {
      if (dense_) {
        load_rows(weight_, {out, 0, 1, 0, stride_, stride_}, data_ + out * stride_, 1);
      } else {
        load_planes(weight_, {out, 0, g_.group_in(), 0, g_.taps(), g_.kernel_w},
                    data_ + out * stride_, g_.taps());
      }
    };
  });
}

template <class T>
void WeightMatrix<T>::store() const {
  if (!copy_.data()) return;
  const int64_t channels = g_.group_in(), taps = g_.taps();
  run_tasks(g_.out_channels, [&] {
    return [&, sorted = Buffer<T>({taps, channels})](int64_t out) {
      T* row = data_ + out * stride_;
      if (dense_) {
        store_rows(weight_, {out, 0, 1, 0, stride_, stride_}, row, 1);
        return;
      }
      load_rows(taps_of_row(g_, row), {0, 0, channels, 0, taps, taps}, sorted.data(), channels);
      store_rows(weight_, {out, 0, channels, 0, taps, g_.kernel_w}, sorted.data(), channels);
    };
  });
}

template <class T>
ColumnSampler<T>::ColumnSampler(const ConvOperands& operands, const ChannelRows<T>& input,
                                int64_t most_channels)
    : g_(operands.g),
      input_(input),
      samples_(operands, 1, operands.g.taps()),
      stride_(most_channels),
      rows_({operands.g.taps(), stride_}) {}

template <class T>
void ColumnSampler<T>::operator()(int64_t image, int64_t begin, int64_t end, T* column) {
  for (const ChannelSpan& span : cut_by_group(begin, end, g_.deform_channels())) {
    const ImageRows<const T> source = image_rows(input_, g_, image, span.begin);
    for (int64_t tap = 0; tap < g_.taps(); ++tap) {
      samples_.locate({image, 0, 1}, span.group, tap);
      sample_columns(samples_, g_, source, span.size(),
                     rows_.data() + tap * stride_ + span.begin - begin, stride_);
    }
  }
  store_rows(taps_of_row(g_, column), {0, 0, end - begin, 0, g_.taps(), g_.taps()}, rows_.data(),
             stride_);
}

template class WeightMatrix<float>;
template class WeightMatrix<double>;
template class ColumnSampler<float>;
template class ColumnSampler<double>;

}  // namespace dcnv2::cpu
