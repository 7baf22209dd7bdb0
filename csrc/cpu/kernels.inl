// SPDX-License-Identifier: BSD-3-Clause
// The bodies of Kernels<T>, included by one file for each instruction set. Before the include:
// every other header (so that only these functions are compiled for the instruction set), and
//   DCNV2_ISA       a name, also the namespace
//   kVectorBytes    width of a vector register
//   kRows           rows of c that one inner product keeps in registers, two vectors wide

namespace dcnv2::cpu::DCNV2_ISA {

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef float unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef double unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};

template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / sizeof(T);

#define DCNV2_LOAD(T, p) (*reinterpret_cast<const typename VectorOf<T>::unaligned*>(p))
#define DCNV2_STORE(T, p) (*reinterpret_cast<typename VectorOf<T>::unaligned*>(p))

template <class T>
T sum_lanes(const Vector<T>& v) {
  T total = v[0];
  for (int i = 1; i < kLanes<T>; ++i) total += v[i];
  return total;
}

// `Rows` rows and `Width` vectors of c at once.
template <class T, int Rows, int Width, bool Transposed>
void inner_product(const PanelProduct<T>& p, int64_t row, int64_t column, int64_t columns) {
  constexpr int kWide = Width * kLanes<T>;
  const int64_t stride = p.a_stride;
  const T* a = p.a + (Transposed ? row : row * stride);
  const T* b = p.b + column;
  Vector<T> sum[Rows][Width] = {};
  for (int64_t k = 0; k < p.depth; ++k) {
    Vector<T> right[Width];
#pragma GCC unroll 4
    for (int w = 0; w < Width; ++w) right[w] = DCNV2_LOAD(T, b + w * kLanes<T>);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const T left = Transposed ? a[i] : a[i * stride];
#pragma GCC unroll 4
      for (int w = 0; w < Width; ++w) sum[i][w] += left * right[w];
    }
    a += Transposed ? stride : 1;
    b += kPanel<T>;
  }

  T* c = p.c + row * p.c_stride + column;
  if (columns >= kWide) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
      for (int w = 0; w < Width; ++w) {
        T* to = c + i * p.c_stride + w * kLanes<T>;
        DCNV2_STORE(T, to) = p.accumulate ? DCNV2_LOAD(T, to) + sum[i][w] : sum[i][w];
      }
    }
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
    T line[kWide];
#pragma GCC unroll 4
    for (int w = 0; w < Width; ++w) DCNV2_STORE(T, line + w * kLanes<T>) = sum[i][w];
    T* to = c + i * p.c_stride;
    for (int64_t j = 0; j < columns; ++j) to[j] = p.accumulate ? to[j] + line[j] : line[j];
  }
}

template <class T, int Width, bool Transposed>
void all_rows(const PanelProduct<T>& p, int64_t column, int64_t columns) {
  int64_t row = 0;
  for (; row + kRows <= p.rows; row += kRows) {
    inner_product<T, kRows, Width, Transposed>(p, row, column, columns);
  }
  for (; row + 4 <= p.rows; row += 4) {
    inner_product<T, 4, Width, Transposed>(p, row, column, columns);
  }
  for (; row < p.rows; ++row) inner_product<T, 1, Width, Transposed>(p, row, column, columns);
}

template <class T, bool Transposed>
void all_columns(const PanelProduct<T>& p) {
  for (int64_t column = 0; column < p.columns; column += 2 * kLanes<T>) {
    const int64_t left = p.columns - column;
    if (left > kLanes<T>) {
      all_rows<T, 2, Transposed>(p, column, left);
    } else {
      all_rows<T, 1, Transposed>(p, column, left);
    }
  }
}

template <class T>
void panel_product(const PanelProduct<T>& p) {
  p.a_transposed ? all_columns<T, true>(p) : all_columns<T, false>(p);
}

template <class T>
void weighted_sum(const T* const* rows, const T* weights, int64_t count, int64_t channels, T* out) {
  constexpr int kWidth = 4;
  int64_t c = 0;
  if (count == 4) {  // a whole bilinear sample
    const T *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
    const T w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
    for (; c + kLanes<T> <= channels; c += kLanes<T>) {
      DCNV2_STORE(T, out + c) = w0 * DCNV2_LOAD(T, r0 + c) + w1 * DCNV2_LOAD(T, r1 + c) +
                                w2 * DCNV2_LOAD(T, r2 + c) + w3 * DCNV2_LOAD(T, r3 + c);
    }
  }
  for (; c + kWidth * kLanes<T> <= channels; c += kWidth * kLanes<T>) {
    Vector<T> sum[kWidth] = {};
    for (int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 4
      for (int w = 0; w < kWidth; ++w) {
        sum[w] += weights[i] * DCNV2_LOAD(T, rows[i] + c + w * kLanes<T>);
      }
    }
#pragma GCC unroll 4
    for (int w = 0; w < kWidth; ++w) DCNV2_STORE(T, out + c + w * kLanes<T>) = sum[w];
  }
  for (; c + kLanes<T> <= channels; c += kLanes<T>) {
    Vector<T> sum = {};
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * DCNV2_LOAD(T, rows[i] + c);
    DCNV2_STORE(T, out + c) = sum;
  }
  for (; c < channels; ++c) {
    T sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * rows[i][c];
    out[c] = sum;
  }
}

template <class T>
void dot_rows(const T* const* rows, int64_t count, const T* grad, int64_t channels, T* dots) {
  const int64_t whole = channels - channels % kLanes<T>;
  if (count == 4) {
    Vector<T> sum[4] = {};
    for (int64_t c = 0; c < whole; c += kLanes<T>) {
      const Vector<T> g = DCNV2_LOAD(T, grad + c);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[i] += g * DCNV2_LOAD(T, rows[i] + c);
    }
    for (int i = 0; i < 4; ++i) dots[i] = sum_lanes<T>(sum[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) {
      Vector<T> sum = {};
      for (int64_t c = 0; c < whole; c += kLanes<T>) {
        sum += DCNV2_LOAD(T, grad + c) * DCNV2_LOAD(T, rows[i] + c);
      }
      dots[i] = sum_lanes<T>(sum);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = whole; c < channels; ++c) dots[i] += grad[c] * rows[i][c];
  }
}

template <class T>
void scatter_rows(T* const* rows, const T* weights, int64_t count, const T* grad,
                  int64_t channels) {
  for (int64_t i = 0; i < count; ++i) {
    T* row = rows[i];
    const T weight = weights[i];
    int64_t c = 0;
    for (; c + kLanes<T> <= channels; c += kLanes<T>) {
      DCNV2_STORE(T, row + c) = DCNV2_LOAD(T, row + c) + weight * DCNV2_LOAD(T, grad + c);
    }
    for (; c < channels; ++c) row[c] += weight * grad[c];
  }
}

#undef DCNV2_LOAD
#undef DCNV2_STORE

template <class T>
constexpr Kernels<T> kTable = {panel_product<T>, weighted_sum<T>, dot_rows<T>, scatter_rows<T>};

}  // namespace dcnv2::cpu::DCNV2_ISA
