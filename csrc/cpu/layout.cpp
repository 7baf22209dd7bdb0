// SPDX-License-Identifier: BSD-3-Clause
#include "layout.h"

namespace dcnv2::cpu {
namespace {

// Copies one number between an element of a tensor and one of the rows.
struct Load {
  template <class Element, class T>
  void operator()(const Element& element, T& value) const {
    value = static_cast<T>(element);
  }
};
struct Store {
  template <class Element, class T>
  void operator()(Element& element, const T& value) const {
    element = static_cast<Element>(value);
  }
};

// One run of pixels that lie `pixel_stride` apart.
template <class Move, class Element, class T>
void move_run(Element* tensor, int64_t pixel_stride, int64_t channel_stride, T* rows,
              int64_t row_stride, int64_t pixels, int64_t channels) {
  constexpr Move move;
  if (channels == 1 && pixel_stride == 1 && row_stride == 1) {
    for (int64_t p = 0; p < pixels; ++p) move(tensor[p], rows[p]);
    return;
  }
  if (channels == 1 || channel_stride == 1) {
    for (int64_t p = 0; p < pixels; ++p) {
      Element* from = tensor + p * pixel_stride;
      T* to = rows + p * row_stride;
      for (int64_t c = 0; c < channels; ++c) move(from[c], to[c]);
    }
    return;
  }
  // Small blocks inside of larger ones: both sides stay in the cache, and a block in registers.
  constexpr int64_t kTile = 16, kBlock = 4;
  for (int64_t p0 = 0; p0 < pixels; p0 += kTile) {
    const int64_t p1 = std::min(p0 + kTile, pixels);
    for (int64_t c0 = 0; c0 < channels; c0 += kBlock) {
      Element* from = tensor + c0 * channel_stride;
      T* to = rows + c0;
      const int64_t count = std::min(kBlock, channels - c0);
      for (int64_t p = p0; p < p1; ++p) {
        if (count == kBlock) {
          for (int64_t c = 0; c < kBlock; ++c) {
            move(from[p * pixel_stride + c * channel_stride], to[p * row_stride + c]);
          }
        } else {
          for (int64_t c = 0; c < count; ++c) {
            move(from[p * pixel_stride + c * channel_stride], to[p * row_stride + c]);
          }
        }
      }
    }
  }
}

template <class Move, class Element, class T>
void move_range(const View& view, const PixelRange& r, T* rows, int64_t row_stride) {
  const int64_t* stride = view.stride;
  Element* image = static_cast<Element*>(view.data) + r.image * stride[0] + r.channel * stride[1];
  // Where rows of the image follow each other like pixels of a row, all is one run.
  const bool flat = stride[2] == r.width * stride[3];
  for (int64_t done = 0; done < r.pixels;) {
    const int64_t pixel = r.pixel + done, y = pixel / r.width, x = pixel % r.width;
    const int64_t run = flat ? r.pixels : std::min(r.width - x, r.pixels - done);
    move_run<Move>(image + y * stride[2] + x * stride[3], stride[3], stride[1],
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

  pixel_stride_ = channels;
  image_stride_ = channels * height * width;
  copy_ = Buffer<T>({batch, channels, height, width});
  data_ = copy_.data();
  const int64_t block = channels / groups;
  run_tasks(batch * height, [&] {
    return [&](int64_t task) {
      const int64_t n = task / height, y = task % height;
      for (int64_t j = 0; j < groups; ++j) {
        View part = advance(view, j * view.stride[1]);
        part.stride[1] *= groups;
        load_rows(part, {n, 0, block, y * width, width, width},
                  copy_.data() + n * image_stride_ + y * width * channels + j * block, channels);
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
