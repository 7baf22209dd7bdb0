// SPDX-License-Identifier: BSD-3-Clause
// Conversions between tensors of any layout and dtype and rows of channels in the accumulation
// type.
#pragma once

#include "cpu/tensor/parallel.h"
#include "cpu/tensor/view.h"

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

// planes[c * plane_stride + i] = the range's pixel i, channel c.
template <class T>
void load_planes(const View& from, const PixelRange& range, T* planes, int64_t plane_stride);

// Elements between rows of `channels` elements. A pass often reads a few channels of many rows; if
// rows were an even number of cache lines apart, they would conflict in a part of the L1 cache.
template <class T>
int64_t row_stride(int64_t channels) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(T));
  return channels % (2 * kLine) == 0 ? channels + kLine : channels;
}

// A tensor that is already stored as rows of channels in type T.
template <class T>
struct RowsInPlace {
  const T* data = nullptr;  // null if the tensor has another form
  int64_t image_stride = 0, pixel_stride = 0;

  RowsInPlace(const View& view, const int64_t (&sizes)[4]);
  explicit operator bool() const { return data != nullptr; }
};

// Rows of channels of some pixels at a time: the tensor's memory if it has that form, otherwise a
// copy of these pixels.
template <class T>
class PixelRows {
 public:
  PixelRows(const View& view, const int64_t (&sizes)[4], int64_t most_pixels);

  // The row of the first of some pixels, valid until the next call.
  const T* rows(int64_t image, int64_t first, int64_t count) const;
  int64_t stride() const { return stride_; }

 private:
  View view_;
  int64_t channels_, width_;
  RowsInPlace<T> in_place_;
  int64_t stride_;
  Buffer<T> copy_;
};

// An operand [batch, channels, height, width] as rows of channels in type T: the tensor's memory if
// it has that form, otherwise a copy in blocks of `block_channels` (0: of all channels). A block has
// all pixels of an image, so that the channels of a pass are close together. `groups` > 1 reorders
// the channels: channel i * groups + j of the tensor is at j * (channels / groups) + i, in one
// block.
template <class T>
class ChannelRows {
 public:
  ChannelRows(const View& view, const int64_t (&sizes)[4], int64_t block_channels = 0,
              int64_t groups = 1);

  // From `channel` on, to the end of its block, the row of an image's first pixel; and the elements
  // from one pixel's row to the next.
  const T* image(int64_t n, int64_t channel = 0) const {
    return data_ + n * image_stride_ + channel / block_channels_ * block_stride_ +
           channel % block_channels_;
  }
  int64_t stride() const { return pixel_stride_; }

 private:
  Buffer<T> copy_;
  const T* data_;
  int64_t block_channels_, block_stride_ = 0, image_stride_, pixel_stride_;
};

}  // namespace dcnv2::cpu
