// SPDX-License-Identifier: BSD-3-Clause
// Products of rows with rows, included by kernels.inl.

namespace dcnv2::cpu::DCNV2_ISA {

// Four rows of a with `Count` of b. The order of a sum does not depend on Count.
template <class T, int Count>
void dot_tile(const RowDots<T>& d, int64_t row, int64_t column) {
  constexpr int kStep = kLanes<T>;
  const int64_t rows = std::min<int64_t>(4, d.rows - row);
  const T *a[4], *b[Count];
  for (int i = 0; i < 4; ++i) a[i] = d.a + (row + (i < rows ? i : 0)) * d.a_stride;
  for (int j = 0; j < Count; ++j) b[j] = d.b + (column + j) * d.b_stride;
  Vector<T> sum[Count][4] = {};
  int64_t k = 0;
  for (; k + kStep <= d.depth; k += kStep) {
    Vector<T> left[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) left[i] = DCNV2_LOAD(T, kVectorBytes, a[i] + k);
#pragma GCC unroll 4
    for (int j = 0; j < Count; ++j) {
      const Vector<T> right = DCNV2_LOAD(T, kVectorBytes, b[j] + k);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[j][i] += left[i] * right;
    }
  }
  for (int j = 0; j < Count; ++j) {
    T dots[4];
    sum_four<T, kVectorBytes>(sum[j], dots);
    for (int64_t rest = k; rest < d.depth; ++rest) {
      for (int i = 0; i < 4; ++i) dots[i] += a[i][rest] * b[j][rest];
    }
    for (int i = 0; i < rows; ++i) d.c[(row + i) * d.c_stride + column + j] += dots[i];
  }
}

template <class T>
void row_dots(const RowDots<T>& d) {
  constexpr int kColumns = kRows / 3;  // what fits the registers
  for (int64_t row = 0; row < d.rows; row += 4) {
    int64_t column = 0;
    for (; column + kColumns <= d.columns; column += kColumns) {
      dot_tile<T, kColumns>(d, row, column);
    }
    for (; column < d.columns; ++column) dot_tile<T, 1>(d, row, column);
  }
}

}  // namespace dcnv2::cpu::DCNV2_ISA
