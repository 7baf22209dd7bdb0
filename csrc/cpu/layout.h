// SPDX-License-Identifier: BSD-3-Clause
// Between tensors of any layout and dtype, and rows of channels in the accumulation type.
#pragma once

#include "parallel.h"
#include "view.h"

namespace dcnv2::cpu {

// Some channels of some consecutive pixels of one image of a view [batch, channels, height, width].
struct PixelRange {
  int64_t image;
  int64_t channel, channels;
  int64_t pixel, pixels;  // counted row by row over the image
  int64_t width;          // of the image
};

// rows[i * row_stride + c] = the range's pixel i, channel c; and the way back.
template <class T>
void load_rows(const View& from, const PixelRange& range, T* rows, int64_t row_stride);
template <class T>
void store_rows(const View& to, const PixelRange& range, const T* rows, int64_t row_stride);

// Elements between rows of `channels` elements. Some channels of many rows are often read alone:
// were rows an even number of cache lines apart, these would compete for a part of the first cache.
template <class T>
int64_t row_stride(int64_t channels) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(T));
  return channels % (2 * kLine) == 0 ? channels + kLine : channels;
}

// An operand [batch, channels, height, width] as rows of channels in type T: the tensor's own
// memory where it has that form, else a copy. `groups` above 1 reorders the channels: channel
// i * groups + j of the tensor comes at j * (channels / groups) + i.
template <class T>
class ChannelRows {
 public:
  ChannelRows(const View& view, const int64_t (&sizes)[4], int64_t groups = 1);

  // The row of an image's first pixel, and the elements from one pixel's row to the next.
  const T* image(int64_t n) const { return data_ + n * image_stride_; }
  int64_t stride() const { return pixel_stride_; }

 private:
  Buffer<T> copy_;
  const T* data_;
  int64_t image_stride_, pixel_stride_;
};

}  // namespace dcnv2::cpu
