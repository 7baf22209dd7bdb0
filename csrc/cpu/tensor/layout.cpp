// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/tensor/layout.h"

#include <cstring>
#include <type_traits>

#include "cpu/simd/shuffle.h"

namespace dcnv2::cpu {
namespace {

// Matrices are transposed in blocks that fit into registers.
constexpr int64_t kBlock = 4;

// to[j * to_stride + i] = from[i * from_stride + j] for a block.
inline void transpose_block(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  typedef float Four __attribute__((vector_size(16)));
  Four rows[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&rows[i], from + i * from_stride, sizeof(Four));
  const Four upper_left = DCNV2_SHUFFLE(float, rows[0], rows[1], 0, 4, 1, 5);
  const Four upper_right = DCNV2_SHUFFLE(float, rows[0], rows[1], 2, 6, 3, 7);
  const Four lower_left = DCNV2_SHUFFLE(float, rows[2], rows[3], 0, 4, 1, 5);
  const Four lower_right = DCNV2_SHUFFLE(float, rows[2], rows[3], 2, 6, 3, 7);
  rows[0] = DCNV2_SHUFFLE(float, upper_left, lower_left, 0, 1, 4, 5);
  rows[1] = DCNV2_SHUFFLE(float, upper_left, lower_left, 2, 3, 6, 7);
  rows[2] = DCNV2_SHUFFLE(float, upper_right, lower_right, 0, 1, 4, 5);
  rows[3] = DCNV2_SHUFFLE(float, upper_right, lower_right, 2, 3, 6, 7);
  for (int j = 0; j < 4; ++j) std::memcpy(to + j * to_stride, &rows[j], sizeof(Four));
}
inline void transpose_block(const double* from, int64_t from_stride, double* to,
                            int64_t to_stride) {
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = 0; j < kBlock; ++j) to[j * to_stride + i] = from[i * from_stride + j];
  }
}

enum class Planes { kFrom, kTo };

// The same for any number of rows and columns of `from`. The rows of one side are planes of a
// tensor: far apart, often by a power of two, and then few of their lines fit the L1 cache. So
// whole lines of a plane are read or written before those of the next plane.
template <Planes planes, class T>
void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
               int64_t columns) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(T)), kTile = 2 * kLine;
  const int64_t whole_rows = rows / kBlock * kBlock, whole_columns = columns / kBlock * kBlock;
  const auto block = [&](int64_t i, int64_t j) {
    transpose_block(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
  };
  if constexpr (planes == Planes::kFrom) {
    for (int64_t j0 = 0; j0 < whole_columns; j0 += kTile) {
      const int64_t j1 = std::min(j0 + kTile, whole_columns);
      for (int64_t i = 0; i < whole_rows; i += kBlock) {
        // The next tile: planes may be too far apart for the hardware prefetcher.
        for (int64_t k = i; k < i + kBlock; ++k) {
          __builtin_prefetch(from + k * from_stride + j1);
          __builtin_prefetch(from + k * from_stride + j1 + kLine);
        }
        for (int64_t j = j0; j < j1; j += kBlock) block(i, j);
      }
    }
  } else {
    for (int64_t i0 = 0; i0 < whole_rows; i0 += kTile) {
      const int64_t i1 = std::min(i0 + kTile, whole_rows);
      for (int64_t j = 0; j < whole_columns; j += kBlock) {
        for (int64_t i = i0; i < i1; i += kBlock) block(i, j);
      }
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
}

// Converts elements of a tensor to rows of channels and back.
template <class To, class From>
void convert(const From* from, int64_t count, To* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

// Contiguous pixels, with channels in planes: between planes of Element and rows of T. If the types
// differ, the data passes through a few planes of T.
constexpr int64_t kPlanes = 16, kPlanePixels = 128;

template <class Element, class T>
void planes_to_rows(const Element* tensor, int64_t channel_stride, T* rows, int64_t row_stride,
                    int64_t pixels, int64_t channels) {
  if constexpr (std::is_same_v<Element, T>) {
    transpose<Planes::kFrom>(tensor, channel_stride, rows, row_stride, channels, pixels);
  } else {
    T planes[kPlanes * kPlanePixels];
    for (int64_t p = 0; p < pixels; p += kPlanePixels) {
      const int64_t count = std::min(kPlanePixels, pixels - p);
      for (int64_t c0 = 0; c0 < channels; c0 += kPlanes) {
        const int64_t some = std::min(kPlanes, channels - c0);
        for (int64_t c = 0; c < some; ++c) {
          convert(tensor + (c0 + c) * channel_stride + p, count, planes + c * kPlanePixels);
        }
        transpose<Planes::kFrom>(planes, kPlanePixels, rows + p * row_stride + c0, row_stride, some,
                                 count);
      }
    }
  }
}

template <class Element, class T>
void rows_to_planes(Element* tensor, int64_t channel_stride, const T* rows, int64_t row_stride,
                    int64_t pixels, int64_t channels) {
  if constexpr (std::is_same_v<Element, T>) {
    transpose<Planes::kTo>(rows, row_stride, tensor, channel_stride, pixels, channels);
  } else {
    T planes[kPlanes * kPlanePixels];
    for (int64_t p = 0; p < pixels; p += kPlanePixels) {
      const int64_t count = std::min(kPlanePixels, pixels - p);
      for (int64_t c0 = 0; c0 < channels; c0 += kPlanes) {
        const int64_t some = std::min(kPlanes, channels - c0);
        transpose<Planes::kTo>(rows + p * row_stride + c0, row_stride, planes, kPlanePixels, count,
                               some);
        for (int64_t c = 0; c < some; ++c) {
          convert(planes + c * kPlanePixels, count, tensor + (c0 + c) * channel_stride + p);
        }
      }
    }
  }
}

// Pixels that are `pixel_stride` apart, from a tensor to rows and back.
struct Load {
  template <class Element, class T>
  static void run(const Element* tensor, int64_t pixel_stride, int64_t channel_stride, T* rows,
                  int64_t row_stride, int64_t pixels, int64_t channels) {
    if (channels == 1 && pixel_stride == 1 && row_stride == 1) {
      convert(tensor, pixels, rows);
    } else if (channels > 1 && pixel_stride == 1) {
      planes_to_rows(tensor, channel_stride, rows, row_stride, pixels, channels);
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
      rows_to_planes(tensor, channel_stride, rows, row_stride, pixels, channels);
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
  // If rows of the image are as far apart as their pixels imply, all pixels are one run.
  const bool flat = stride[2] == r.width * stride[3];
  for (int64_t done = 0; done < r.pixels;) {
    const int64_t pixel = r.pixel + done, y = pixel / r.width, x = pixel % r.width;
    const int64_t run = flat ? r.pixels : std::min(r.width - x, r.pixels - done);
    Move::run(image + y * stride[2] + x * stride[3], stride[3], stride[1], rows + done * row_stride,
              row_stride, run, r.channels);
    done += run;
  }
}

// Elements between consecutive pixels of an image, or 0 if they are not evenly spaced.
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
RowsInPlace<T>::RowsInPlace(const View& view, const int64_t (&sizes)[4]) {
  const int64_t even = even_pixel_stride(view, sizes[2], sizes[3]);
  const bool adjacent = sizes[1] == 1 || view.stride[1] == 1;
  if (view.dtype != kDtypeOf<T> || !adjacent || even == 0) return;
  data = static_cast<const T*>(view.data);
  image_stride = view.stride[0];
  pixel_stride = even;
}

template <class T>
PixelRows<T>::PixelRows(const View& view, const int64_t (&sizes)[4], int64_t most_pixels)
    : view_(view),
      channels_(sizes[1]),
      width_(sizes[3]),
      in_place_(view, sizes),
      stride_(in_place_ ? in_place_.pixel_stride : row_stride<T>(channels_)),
      copy_({in_place_ ? 0 : most_pixels, stride_}) {}

template <class T>
const T* PixelRows<T>::rows(int64_t image, int64_t first, int64_t count) const {
  if (in_place_) return in_place_.data + image * in_place_.image_stride + first * stride_;
  load_rows(view_, {image, 0, channels_, first, count, width_}, copy_.data(), stride_);
  return copy_.data();
}

template <class T>
ChannelRows<T>::ChannelRows(const View& view, const int64_t (&sizes)[4], int64_t block_channels,
                            int64_t groups)
    : block_channels_(std::max<int64_t>(sizes[1], 1)) {
  const int64_t batch = sizes[0], channels = sizes[1], height = sizes[2], width = sizes[3];
  if (const RowsInPlace<T> rows(view, sizes); rows && groups == 1) {
    data_ = rows.data;
    image_stride_ = rows.image_stride;
    pixel_stride_ = rows.pixel_stride;
    return;
  }

  if (block_channels > 0) block_channels_ = block_channels;
  const int64_t blocks = channels / block_channels_, pixels = height * width;
  pixel_stride_ = blocks == 1 ? row_stride<T>(channels) : block_channels_;
  block_stride_ = pixel_stride_ * pixels;
  image_stride_ = block_stride_ * blocks;
  copy_ = Buffer<T>({batch, blocks, height, width, pixel_stride_});
  data_ = copy_.data();
  constexpr int64_t kPixels = 256;
  const int64_t ranges = ceil_div(pixels, kPixels);
  run_tasks(batch * blocks * ranges, [&] {
    return [&](int64_t task) {
      const int64_t n = task / ranges / blocks, b = task / ranges % blocks;
      const int64_t first = task % ranges * kPixels, share = block_channels_ / groups;
      for (int64_t j = 0; j < groups; ++j) {
        View part = advance(view, (b * block_channels_ + j) * view.stride[1]);
        part.stride[1] *= groups;
        load_rows(part, {n, 0, share, first, std::min(kPixels, pixels - first), width},
                  copy_.data() + n * image_stride_ + b * block_stride_ + first * pixel_stride_ +
                      j * share,
                  pixel_stride_);
      }
    };
  });
}

template <class T>
void load_planes(const View& from, const PixelRange& range, T* planes, int64_t plane_stride) {
  PixelRange part = range;
  if (from.stride[3] == 1) {
    for (part.channels = 1; part.channel < range.channel + range.channels; ++part.channel) {
      load_rows(from, part, planes + (part.channel - range.channel) * plane_stride, 1);
    }
    return;
  }
  if (from.dtype == kDtypeOf<T> && from.stride[1] == 1 &&
      from.stride[2] == range.width * from.stride[3]) {
    const T* rows = static_cast<const T*>(from.data) + range.image * from.stride[0] +
                    range.channel + range.pixel * from.stride[3];
    transpose<Planes::kTo>(rows, from.stride[3], planes, plane_stride, range.pixels,
                           range.channels);
    return;
  }
  T rows[kPlanes * kPlanePixels];
  for (int64_t p = 0; p < range.pixels; p += kPlanePixels) {
    part.pixel = range.pixel + p;
    part.pixels = std::min(kPlanePixels, range.pixels - p);
    for (int64_t c = 0; c < range.channels; c += kPlanes) {
      part.channel = range.channel + c;
      part.channels = std::min(kPlanes, range.channels - c);
      load_rows(from, part, rows, kPlanes);
      transpose<Planes::kTo>(rows, kPlanes, planes + c * plane_stride + p, plane_stride,
                             part.pixels, part.channels);
    }
  }
}

template void load_rows<float>(const View&, const PixelRange&, float*, int64_t);
template void load_rows<double>(const View&, const PixelRange&, double*, int64_t);
template void store_rows<float>(const View&, const PixelRange&, const float*, int64_t);
template void store_rows<double>(const View&, const PixelRange&, const double*, int64_t);
template void load_planes<float>(const View&, const PixelRange&, float*, int64_t);
template void load_planes<double>(const View&, const PixelRange&, double*, int64_t);
template struct RowsInPlace<float>;
template struct RowsInPlace<double>;
template class PixelRows<float>;
template class PixelRows<double>;
template class ChannelRows<float>;
template class ChannelRows<double>;

}  // namespace dcnv2::cpu
