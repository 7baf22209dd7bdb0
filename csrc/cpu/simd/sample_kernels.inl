// SPDX-License-Identifier: BSD-3-Clause
// The kernels that process the samples of a run of pixels, included by kernels.inl. A deform group
// may have few channels, so a run is one call, and common widths have their own loops.

namespace dcnv2::cpu::DCNV2_ISA {

// Written so that compilers vectorise the loop.
template <class T>
void locate_row(T row, const T* __restrict__ column, const T* __restrict__ offset_y,
                const T* __restrict__ offset_x, const T* __restrict__ mask, int64_t count,
                int64_t height, int64_t width, int* __restrict__ top, int* __restrict__ left,
                T* __restrict__ ly, T* __restrict__ lx, T* __restrict__ weight,
                int64_t weight_stride) {
  const int last_y = int(height - 2), last_x = int(width - 2);
  for (int64_t p = 0; p < count; ++p) {
    const Sample<T> s = make_sample(row, column[p], offset_y[p], offset_x[p], height, width);
    const bool whole = s.inside && s.y >= 0 && s.y <= last_y && s.x >= 0 && s.x <= last_x;
    top[p] = whole ? s.y : s.inside ? kBorder - s.y : kOutside;
    left[p] = s.x;
    ly[p] = s.nan ? std::numeric_limits<T>::quiet_NaN() : s.ly;
    lx[p] = s.nan ? std::numeric_limits<T>::quiet_NaN() : s.lx;
    const T upper = (T(1) - s.ly) * mask[p], lower = s.ly * mask[p];
    weight[p] = upper * (T(1) - s.lx);
    weight[p + weight_stride] = upper * s.lx;
    weight[p + 2 * weight_stride] = lower * (T(1) - s.lx);
    weight[p + 3 * weight_stride] = lower * s.lx;
  }
}

template <class T>
void locate(const Places<T>& places, const SampleRun<T>& run, int64_t first) {
  locate_row(places.row, places.column, places.offset_y, places.offset_x, places.mask, places.count,
             places.height, places.width, run.y + first, run.x + first, run.ly + first,
             run.lx + first, run.weight + first, run.weight_stride);
}

// The rows of the four corners of sample p.
template <class T>
struct CornerRows {
  T* row[4];

  template <class U>
  CornerRows(const SampleRun<U>& run, const ImageRows<T>& image, int64_t p) {
    row[0] = image.data + run.y[p] * image.y_stride + run.x[p] * image.x_stride;
    row[1] = row[0] + image.x_stride;
    row[2] = row[0] + image.y_stride;
    row[3] = row[2] + image.x_stride;
  }
};

// Calls pass.run<Bytes, Count>() for `channels`: `Count` vectors of `Bytes`; Count is 0 for any
// number of vectors and a remainder.
template <class T, class Pass>
void by_width(int64_t channels, const Pass& pass) {
  const int64_t bytes = channels * int64_t(sizeof(T));
  if (bytes == kVectorBytes) return pass.template run<kVectorBytes, 1>();
  if (bytes == 2 * kVectorBytes) return pass.template run<kVectorBytes, 2>();
  if constexpr (kVectorBytes > 32) {
    if (bytes == 32) return pass.template run<32, 1>();
  }
  if constexpr (kVectorBytes > 16) {
    if (bytes == 16) return pass.template run<16, 1>();
  }
  pass.template run<kVectorBytes, 0>();
}

template <class T>
struct SamplePass {
  const SampleRun<T>& places;
  const ImageRows<const T>& image;
  int64_t channels;
  T* out;
  int64_t out_stride;

  template <int Bytes, int Count>
  void run() const {
    constexpr int kStep = kLanes<T, Bytes>;
    const int64_t whole = Count ? Count * kStep : channels / kStep * kStep;
    const T* weight = places.weight;
    const int64_t stride = places.weight_stride;
    for (int64_t p = 0; p < places.count; ++p) {
      if (places.y[p] < 0) continue;
      const CornerRows<const T> at(places, image, p);
      const T w[4] = {weight[p], weight[p + stride], weight[p + 2 * stride],
                      weight[p + 3 * stride]};
      T* to = out + p * out_stride;
#pragma GCC unroll 2
      for (int64_t c = 0; c < whole; c += kStep) {
        DCNV2_STORE(T, Bytes, to + c) = w[0] * DCNV2_LOAD(T, Bytes, at.row[0] + c) +
                                        w[1] * DCNV2_LOAD(T, Bytes, at.row[1] + c) +
                                        w[2] * DCNV2_LOAD(T, Bytes, at.row[2] + c) +
                                        w[3] * DCNV2_LOAD(T, Bytes, at.row[3] + c);
      }
      if (Count == 0 && whole < channels) {
        const T* rest[4] = {at.row[0] + whole, at.row[1] + whole, at.row[2] + whole,
                            at.row[3] + whole};
        weighted_sum(rest, w, 4, channels - whole, to + whole);
      }
    }
  }
};

template <class T>
void sample_rows(const SampleRun<T>& run, const ImageRows<const T>& image, int64_t channels, T* out,
                 int64_t out_stride) {
  by_width<T>(channels, SamplePass<T>{run, image, channels, out, out_stride});
}

// sums[i] = the sum of the lanes of v[i].
template <class T, int Bytes>
void sum_four(const Vector<T, Bytes> (&v)[4], T* sums) {
  if constexpr (Bytes > 16) {
    constexpr int kHalf = Bytes / 2;
    Vector<T, kHalf> halves[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const T* lower = reinterpret_cast<const T*>(&v[i]);
      const T* upper = lower + kHalf / sizeof(T);
      halves[i] = DCNV2_LOAD(T, kHalf, lower) + DCNV2_LOAD(T, kHalf, upper);
    }
    sum_four<T, kHalf>(halves, sums);
  } else if constexpr (sizeof(T) == 4) {
    const Vector<T, 16> left =
        DCNV2_SHUFFLE(T, v[0], v[1], 0, 4, 1, 5) + DCNV2_SHUFFLE(T, v[0], v[1], 2, 6, 3, 7);
    const Vector<T, 16> right =
        DCNV2_SHUFFLE(T, v[2], v[3], 0, 4, 1, 5) + DCNV2_SHUFFLE(T, v[2], v[3], 2, 6, 3, 7);
    DCNV2_STORE(T, 16, sums) =
        DCNV2_SHUFFLE(T, left, right, 0, 1, 4, 5) + DCNV2_SHUFFLE(T, left, right, 2, 3, 6, 7);
  } else {
    DCNV2_STORE(T, 16, sums) =
        DCNV2_SHUFFLE(T, v[0], v[1], 0, 2) + DCNV2_SHUFFLE(T, v[0], v[1], 1, 3);
    DCNV2_STORE(T, 16, sums + 2) =
        DCNV2_SHUFFLE(T, v[2], v[3], 0, 2) + DCNV2_SHUFFLE(T, v[2], v[3], 1, 3);
  }
}

template <class T>
struct DotPass {
  const SampleRun<T>& places;
  const ImageRows<const T>& image;
  int64_t channels;
  const T* grad;
  int64_t grad_stride;
  T* dots;

  template <int Bytes, int Count>
  void run() const {
    constexpr int kStep = kLanes<T, Bytes>;
    const int64_t whole = Count ? Count * kStep : channels / kStep * kStep;
    for (int64_t p = 0; p < places.count; ++p) {
      if (places.y[p] < 0) continue;
      const CornerRows<const T> at(places, image, p);
      const T* from = grad + p * grad_stride;
      Vector<T, Bytes> sum[4] = {};
#pragma GCC unroll 2
      for (int64_t c = 0; c < whole; c += kStep) {
        const Vector<T, Bytes> g = DCNV2_LOAD(T, Bytes, from + c);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) sum[i] += g * DCNV2_LOAD(T, Bytes, at.row[i] + c);
      }
      sum_four<T, Bytes>(sum, dots + 4 * p);
      if (Count == 0) {
        for (int64_t c = whole; c < channels; ++c) {
          for (int i = 0; i < 4; ++i) dots[4 * p + i] += from[c] * at.row[i][c];
        }
      }
    }
  }
};

template <class T>
void dot_samples(const SampleRun<T>& run, const ImageRows<const T>& image, int64_t channels,
                 const T* grad, int64_t grad_stride, T* dots) {
  by_width<T>(channels, DotPass<T>{run, image, channels, grad, grad_stride, dots});
}

template <class T>
struct ScatterPass {
  const SampleRun<T>& places;
  const ImageRows<T>& image;
  int64_t channels;
  const T* grad;
  int64_t grad_stride;

  template <int Bytes, int Count>
  void run() const {
    constexpr int kStep = kLanes<T, Bytes>;
    const int64_t whole = Count ? Count * kStep : channels / kStep * kStep;
    for (int64_t p = 0; p < places.count; ++p) {
      if (places.y[p] < 0) continue;
      const CornerRows<T> at(places, image, p);
      const T* from = grad + p * grad_stride;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const T weight = places.weight[p + i * places.weight_stride];
        T* to = at.row[i];
#pragma GCC unroll 2
        for (int64_t c = 0; c < whole; c += kStep) {
          DCNV2_STORE(T, Bytes, to + c) =
              DCNV2_LOAD(T, Bytes, to + c) + weight * DCNV2_LOAD(T, Bytes, from + c);
        }
        if (Count == 0) {
          for (int64_t c = whole; c < channels; ++c) to[c] += weight * from[c];
        }
      }
    }
  }
};

template <class T>
void scatter_samples(const SampleRun<T>& run, const ImageRows<T>& image, int64_t channels,
                     const T* grad, int64_t grad_stride) {
  by_width<T>(channels, ScatterPass<T>{run, image, channels, grad, grad_stride});
}

}  // namespace dcnv2::cpu::DCNV2_ISA
