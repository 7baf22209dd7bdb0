// SPDX-License-Identifier: BSD-3-Clause
// The bodies of Kernels<T>, included by one file for each instruction set. Before the include:
// every other header (so that only these functions are compiled for the instruction set), and
//   DCNV2_ISA       a name, also the namespace
//   kVectorBytes    width of a vector register
//   kRows           rows of c that one inner product keeps in registers, two vectors wide

namespace dcnv2::cpu::DCNV2_ISA {

template <class T, int Bytes = kVectorBytes>
struct VectorOf;
#define DCNV2_VECTOR_OF(T, Bytes)                                                           \
  template <>                                                                               \
  struct VectorOf<T, Bytes> {                                                               \
    typedef T type __attribute__((vector_size(Bytes)));                                     \
    typedef T unaligned __attribute__((vector_size(Bytes), aligned(sizeof(T)), may_alias)); \
  };
DCNV2_VECTOR_OF(float, 16)
DCNV2_VECTOR_OF(float, 32)
DCNV2_VECTOR_OF(float, 64)
DCNV2_VECTOR_OF(double, 16)
DCNV2_VECTOR_OF(double, 32)
DCNV2_VECTOR_OF(double, 64)
#undef DCNV2_VECTOR_OF

template <class T, int Bytes = kVectorBytes>
using Vector = typename VectorOf<T, Bytes>::type;
template <class T, int Bytes = kVectorBytes>
constexpr int kLanes = Bytes / sizeof(T);

#define DCNV2_LOAD(T, Bytes, p) \
  (*reinterpret_cast<const typename VectorOf<T, Bytes>::unaligned*>(p))
#define DCNV2_STORE(T, Bytes, p) (*reinterpret_cast<typename VectorOf<T, Bytes>::unaligned*>(p))

// Vectors travel by reference: how one is passed by value depends on the instruction set.
template <class T, int Bytes>
T sum_lanes(const Vector<T, Bytes>& v) {
  T lanes[kLanes<T, Bytes>];
  DCNV2_STORE(T, Bytes, lanes) = v;
#pragma GCC unroll 4
  for (int half = kLanes<T, Bytes> / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// `Rows` rows and `Width` vectors of c at once.
template <class T, int Rows, int Width, bool Transposed>
void inner_product(const PanelProduct<T>& p, int64_t row, int64_t column, int64_t columns) {
  constexpr int kWide = Width * kLanes<T>;
  const int64_t stride = p.a_stride, b_stride = p.b_stride;
  const T* b = p.b + column;
  Vector<T> sum[Rows][Width] = {};
  // Of a, a pointer to every third row: one to each would not fit into the registers.
  constexpr int kApart = 3, kPointers = (Rows + kApart - 1) / kApart;
  const int64_t between = Transposed ? 1 : stride, step = Transposed ? stride : 1;
  for (int64_t block = 0; block < p.blocks; ++block) {
    const T* a[kPointers];
#pragma GCC unroll 16
    for (int i = 0; i < kPointers; ++i) {
      a[i] = p.a + block * p.a_block + (row + i * kApart) * between;
    }
    for (int64_t k = 0; k < p.depth; ++k) {
      Vector<T> right[Width];
#pragma GCC unroll 4
      for (int w = 0; w < Width; ++w) right[w] = DCNV2_LOAD(T, kVectorBytes, b + w * kLanes<T>);
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        const T left = a[i / kApart][i % kApart * between];
#pragma GCC unroll 4
        for (int w = 0; w < Width; ++w) sum[i][w] += left * right[w];
      }
#pragma GCC unroll 16
      for (int i = 0; i < kPointers; ++i) a[i] += step;
      b += b_stride;
    }
  }

  T* c = p.c + row * p.c_stride + column;
  if (columns >= kWide) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
      for (int w = 0; w < Width; ++w) {
        T* to = c + i * p.c_stride + w * kLanes<T>;
        DCNV2_STORE(T, kVectorBytes, to) =
            p.accumulate ? DCNV2_LOAD(T, kVectorBytes, to) + sum[i][w] : sum[i][w];
      }
    }
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
    T line[kWide];
#pragma GCC unroll 4
    for (int w = 0; w < Width; ++w) DCNV2_STORE(T, kVectorBytes, line + w * kLanes<T>) = sum[i][w];
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

// The row kernels process whole vectors first, then the rest in narrower ones: a deform group may
// have few channels. Each step returns the channel after its last.

template <class T, int Bytes>
int64_t sum_from(const T* const* rows, const T* weights, int64_t count, int64_t c, int64_t channels,
                 T* out) {
  constexpr int kStep = kLanes<T, Bytes>;
  if (count == 4) {  // a whole bilinear sample
    const T *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
    const T w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
    for (; c + kStep <= channels; c += kStep) {
      DCNV2_STORE(T, Bytes, out + c) =
          w0 * DCNV2_LOAD(T, Bytes, r0 + c) + w1 * DCNV2_LOAD(T, Bytes, r1 + c) +
          w2 * DCNV2_LOAD(T, Bytes, r2 + c) + w3 * DCNV2_LOAD(T, Bytes, r3 + c);
    }
  }
  for (; c + 4 * kStep <= channels; c += 4 * kStep) {
    Vector<T, Bytes> sum[4] = {};
    for (int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 4
      for (int w = 0; w < 4; ++w) {
        sum[w] += weights[i] * DCNV2_LOAD(T, Bytes, rows[i] + c + w * kStep);
      }
    }
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) DCNV2_STORE(T, Bytes, out + c + w * kStep) = sum[w];
  }
  for (; c + kStep <= channels; c += kStep) {
    Vector<T, Bytes> sum = {};
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * DCNV2_LOAD(T, Bytes, rows[i] + c);
    DCNV2_STORE(T, Bytes, out + c) = sum;
  }
  if constexpr (Bytes > 16) return sum_from<T, Bytes / 2>(rows, weights, count, c, channels, out);
  return c;
}

template <class T>
void weighted_sum(const T* const* rows, const T* weights, int64_t count, int64_t channels, T* out) {
  for (int64_t c = sum_from<T, kVectorBytes>(rows, weights, count, 0, channels, out); c < channels;
       ++c) {
    T sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * rows[i][c];
    out[c] = sum;
  }
}

template <class T, int Count, int Bytes>
int64_t dots_from(const T* const* rows, const T* grad, int64_t c, int64_t channels, T* dots) {
  constexpr int kStep = kLanes<T, Bytes>;
  if (c + kStep <= channels) {
    Vector<T, Bytes> sum[Count] = {};
    for (; c + kStep <= channels; c += kStep) {
      const Vector<T, Bytes> g = DCNV2_LOAD(T, Bytes, grad + c);
#pragma GCC unroll 4
      for (int i = 0; i < Count; ++i) sum[i] += g * DCNV2_LOAD(T, Bytes, rows[i] + c);
    }
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) dots[i] += sum_lanes<T, Bytes>(sum[i]);
  }
  if constexpr (Bytes > 16) return dots_from<T, Count, Bytes / 2>(rows, grad, c, channels, dots);
  return c;
}

template <class T, int Count>
void some_dots(const T* const* rows, const T* grad, int64_t channels, T* dots) {
  for (int i = 0; i < Count; ++i) dots[i] = 0;
  for (int64_t c = dots_from<T, Count, kVectorBytes>(rows, grad, 0, channels, dots); c < channels;
       ++c) {
    for (int i = 0; i < Count; ++i) dots[i] += grad[c] * rows[i][c];
  }
}

template <class T>
void dot_rows(const T* const* rows, int64_t count, const T* grad, int64_t channels, T* dots) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) some_dots<T, 4>(rows + i, grad, channels, dots + i);
  for (; i < count; ++i) some_dots<T, 1>(rows + i, grad, channels, dots + i);
}

template <class T, int Bytes>
int64_t add_from(T* row, T weight, const T* grad, int64_t c, int64_t channels) {
  constexpr int kStep = kLanes<T, Bytes>;
  for (; c + kStep <= channels; c += kStep) {
    DCNV2_STORE(T, Bytes, row + c) =
        DCNV2_LOAD(T, Bytes, row + c) + weight * DCNV2_LOAD(T, Bytes, grad + c);
  }
  if constexpr (Bytes > 16) return add_from<T, Bytes / 2>(row, weight, grad, c, channels);
  return c;
}

template <class T>
void scatter_rows(T* const* rows, const T* weights, int64_t count, const T* grad,
                  int64_t channels) {
  for (int64_t i = 0; i < count; ++i) {
    T* row = rows[i];
    const T weight = weights[i];
    for (int64_t c = add_from<T, kVectorBytes>(row, weight, grad, 0, channels); c < channels; ++c) {
      row[c] += weight * grad[c];
    }
  }
}

}  // namespace dcnv2::cpu::DCNV2_ISA

#include "cpu/simd/sample_kernels.inl"
#include "cpu/simd/row_dots.inl"

namespace dcnv2::cpu::DCNV2_ISA {

template <class T>
constexpr Kernels<T> kTable = {panel_product<T>, row_dots<T>,        locate<T>,
                               sample_rows<T>,   dot_samples<T>,     scatter_samples<T>,
                               weighted_sum<T>,  dot_rows<T>,        scatter_rows<T>};

}  // namespace dcnv2::cpu::DCNV2_ISA

#undef DCNV2_LOAD
#undef DCNV2_STORE
