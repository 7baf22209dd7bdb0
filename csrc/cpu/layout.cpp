// SPDX-License-Identifier: BSD-3-Clause
#include "layout.h"

#include <type_traits>

namespace dcnv2::cpu {
namespace {

// Small blocks inside of larger ones: a block is in registers, and the lines that a larger one
// touches on both sides stay in the cache.
constexpr int64_t kBlock = 4, kTile = 32;

// to[j * to_stride + i] = from[i * from_stride + j] for a block.
template <class T>
void transpose_block(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  T block[kBlock][kBlock];
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = 0; j < kBlock; ++j) block[j][i] = from[i * from_stride + j];
  }
  for (int64_t j = 0; j < kBlock; ++j) std::copy_n(block[j], kBlock, to + j * to_stride);
}

// The same for any number of rows and columns of `from`.
template <class T>
void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
               int64_t columns) {
  const int64_t whole_rows = rows / kBlock * kBlock, whole_columns = columns / kBlock * kBlock;
  for (int64_t j0 = 0; j0 < whole_columns; j0 += kTile) {
    const int64_t j1 = std::min(j0 + kTile, whole_columns);
    for (int64_t i = 0; i < whole_rows; i += kBlock) {
      // The next tile: rows may be too far apart for the processor to foresee it.
      for (int64_t k = i; k < i + kBlock; ++k) {
        __builtin_prefetch(from + k * from_stride + j1);
        __builtin_prefetch(from + k * from_stride + j1 + kTile / 2);
      }
      for (int64_t j = j0; j < j1; j += kBlock) {
        transpose_block(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
      }
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
}

// Numbers of a tensor and rows of channels, one as the other.
template <class To, class From>
void convert(const From* from, int64_t count, To* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

// Pixels that lie side by side, their channels in planes: between Element's planes and T's rows. A
// type that is not the rows' own passes through a few planes of T.
constexpr int64_t kPlanes = 16, kPlanePixels = 128;

template <class Element, class T>
void load_planes(const Element* tensor, int64_t channel_stride, T* rows, int64_t row_stride,
                 int64_t pixels, int64_t channels) {
  if constexpr (std::is_same_v<Element, T>) {
    transpose(tensor, channel_stride, rows, row_stride, channels, pixels);
  } else {
    T planes[kPlanes * kPlanePixels];
    for (int64_t p = 0; p < pixels; p += kPlanePixels) {
      const int64_t count = std::min(kPlanePixels, pixels - p);
      for (int64_t c0 = 0; c0 < channels; c0 += kPlanes) {
        const int64_t some = std::min(kPlanes, channels - c0);
        for (int64_t c = 0; c < some; ++c) {
          convert(tensor + (c0 + c) * channel_stride + p, count, planes + c * kPlanePixels);
        }
        transpose(planes, kPlanePixels, rows + p * row_stride + c0, row_stride, some, count);
      }
    }
  }
}

template <class Element, class T>
void store_planes(Element* tensor, int64_t channel_stride, const T* rows, int64_t row_stride,
                  int64_t pixels, int64_t channels) {
  if constexpr (std::is_same_v<Element, T>) {
    transpose(rows, row_stride, tensor, channel_stride, pixels, channels);
  } else {
    T planes[kPlanes * kPlanePixels];
    for (int64_t p = 0; p < pixels; p += kPlanePixels) {
      const int64_t count = std::min(kPlanePixels, pixels - p);
      for (int64_t c0 = 0; c0 < channels; c0 += kPlanes) {
        const int64_t some = std::min(kPlanes, channels - c0);
        transpose(rows + p * row_stride + c0, row_stride, planes, kPlanePixels, count, some);
        for (int64_t c = 0; c < some; ++c) {
          convert(planes + c * kPlanePixels, count, tensor + (c0 + c) * channel_stride + p);
        }
      }
    }
  }
}

// A run of pixels that lie `pixel_stride` apart, from a tensor into rows and back.
struct Load {
  template <class Element, class T>
  static void run(const Element* tensor, int64_t pixel_stride, int64_t channel_stride, T* rows,
                  int64_t row_stride, int64_t pixels, int64_t channels) {
    if (channels == 1 && pixel_stride == 1 && row_stride == 1) {
      convert(tensor, pixels, rows);
    } else if (channels > 1 && pixel_stride == 1) {
      load_planes(tensor, channel_stride, rows, row_stride, pixels, channels);
    } else {
      for (int64_t p = 0; p < pixels; ++p) {
        const Element* from = tensor + p * pixel_stride;
        T* to = rows + p * row_stride;
        if (channel_stride == 1) {
          convert(from, channels, to);
        } else {
          for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<T>(from[c * channel_stride]);
        }
      }
    }
  }
};
struct Store {
  template <class Element, class T>
  static void run(Element* tensor, int64_t pixel_stride, int64_t channel_stride, const T* rows,
                  int64_t row_stride, int64_t pixels, int64_t channels) {
    if (channels == 1 && pixel_stride == 1 && row_stride == 1) {
      convert(rows, pixels, tensor);
    } else if (channels > 1 && pixel_stride == 1) {
      store_planes(tensor, channel_stride, rows, row_stride, pixels, channels);
    } else {
      for (int64_t p = 0; p < pixels; ++p) {
        Element* to = tensor + p * pixel_stride;
        const T* from = rows + p * row_stride;
        if (channel_stride == 1) {
          convert(from, channels, to);
        } else {
          for (int64_t c = 0; c < channels; ++c) {
            to[c * channel_stride] = static_cast<Element>(from[c]);
          }
        }
      }
    }
  }
};

template <class Move, class Element, class T>
void move_range(const View& view, const PixelRange& r, T* rows, int64_t row_stride) {
  const int64_t* stride = view.stride;
  Element* image = static_cast<Element*>(view.data) + r.image * stride[0] + r.channel * stride[1];
  // Where rows of the image follow each other like pixels of a row, all is one run.
  const bool flat = stride[2] == r.width * stride[3];
  for (int64_t done = 0; done < r.pixels;) {
    const int64_t pixel = r.pixel + done, y = pixel / r.width, x = pixel % r.width;
    const int64_t run = flat ? r.pixels : std::min(r.width - x, r.pixels - done);
    Move::run(image + y * stride[2] + x * stride[3], stride[3], stride[1],
              rows + done * row_stride, row_stride, run, r.channels);
    done += run;
  }
}

// Elements between consecutive pixels of an image, or 0 where they are not evenly apart.
int64_t even_pixel_stride(const View& view, int64_t height, int64_t width) {
  if (width == 1) return height == 1 ? 1 : view.stride[2];
  return height == 1 || view.stride[2] == width * view.stride[3] ? view.stride[3] : 0;
}

}  // namespace

template <class T>
void load_rows(const View& from, const PixelRange& range, T* rows, int64_t row_stride) {
  with_element(from.dtype, [&]<class Element>(Element*) {
    move_range<Load, const Element>(from, range, rows, row_stride);
  });
}

template <class T>
void store_rows(const View& to, const PixelRange& range, const T* rows, int64_t row_stride) {
  with_element(to.dtype, [&]<class Element>(Element*) {
    move_range<Store, Element>(to, range, rows, row_stride);
  });
}

template <class T>
ChannelRows<T>::ChannelRows(const View& view, const int64_t (&sizes)[4], int64_t groups) {
  const int64_t batch = sizes[0], channels = sizes[1], height = sizes[2], width = sizes[3];
  const int64_t even = even_pixel_stride(view, height, width);
  const bool adjacent = channels == 1 || view.stride[1] == 1;
  if (view.dtype == kDtypeOf<T> && groups == 1 && adjacent && even != 0) {
    data_ = static_cast<const T*>(view.data);
    image_stride_ = view.stride[0];
    pixel_stride_ = even;
    return;
  }

  pixel_stride_ = row_stride<T>(channels);
  image_stride_ = pixel_stride_ * height * width;
  copy_ = Buffer<T>({batch, height, width, pixel_stride_});
  data_ = copy_.data();
  constexpr int64_t kPixels = 256;
  const int64_t block = channels / groups, pixels = height * width;
  const int64_t chunks = ceil_div(pixels, kPixels);
  run_tasks(batch * chunks, [&] {
    return [&](int64_t task) {
      const int64_t n = task / chunks, first = task % chunks * kPixels;
      for (int64_t j = 0; j < groups; ++j) {
        View part = advance(view, j * view.stride[1]);
        part.stride[1] *= groups;
        load_rows(part, {n, 0, block, first, std::min(kPixels, pixels - first), width},
                  copy_.data() + n * image_stride_ + first * pixel_stride_ + j * block,
                  pixel_stride_);
      }
    };
  });
}

template void load_rows<float>(const View&, const PixelRange&, float*, int64_t);
template void load_rows<double>(const View&, const PixelRange&, double*, int64_t);
template void store_rows<float>(const View&, const PixelRange&, const float*, int64_t);
template void store_rows<double>(const View&, const PixelRange&, const double*, int64_t);
template class ChannelRows<float>;
template class ChannelRows<double>;

}  // namespace dcnv2::cpu
