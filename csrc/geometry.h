// SPDX-License-Identifier: BSD-3-Clause
// The one definition of where a deformable convolution samples and how it interpolates, for the
// host and for the device. Every kernel of every pass uses it.
//
// Offsets are [batch, deform_groups * taps * 2, out_height, out_width] with (y, x) interleaved,
// masks [batch, deform_groups * taps, out_height, out_width]; taps are row-major over the kernel.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define DCNV2_HD __host__ __device__ __forceinline__
#else
#define DCNV2_HD inline
#endif

namespace dcnv2 {

// The undeformed input position of kernel row or column `step` at output position `out`.
template <class Int>
DCNV2_HD Int undeformed(Int out, Int stride, Int pad, Int step, Int dilation) {
  return out * stride - pad + step * dilation;
}

// Sizes of one deformable convolution.
struct ConvGeometry {
  int64_t batch, in_channels, height, width;
  int64_t out_channels, out_height, out_width;
  int64_t kernel_h, kernel_w;
  int64_t stride_h, stride_w;
  int64_t pad_h, pad_w;
  int64_t dilation_h, dilation_w;
  int64_t groups, deform_groups;

  DCNV2_HD int64_t taps() const { return kernel_h * kernel_w; }
  DCNV2_HD int64_t out_pixels() const { return batch * out_height * out_width; }
  DCNV2_HD int64_t group_in() const { return in_channels / groups; }
  DCNV2_HD int64_t group_out() const { return out_channels / groups; }
  DCNV2_HD int64_t deform_channels() const { return in_channels / deform_groups; }

  // Undeformed sample position, in input pixels, of a tap at an output position.
  DCNV2_HD int64_t tap_y(int64_t out_y, int64_t tap) const {
    return undeformed(out_y, stride_h, pad_h, tap / kernel_w, dilation_h);
  }
  DCNV2_HD int64_t tap_x(int64_t out_x, int64_t tap) const {
    return undeformed(out_x, stride_w, pad_w, tap % kernel_w, dilation_w);
  }
};

// Output size of a convolution along one axis; below one if the kernel does not fit.
DCNV2_HD int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad,
                          int64_t dilation) {
  const int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

DCNV2_HD int64_t gcd(int64_t a, int64_t b) { return b == 0 ? a : gcd(b, a % b); }

// The largest number of channels such that each unit of so many consecutive input channels has one
// weight group and one deform group.
DCNV2_HD int64_t channel_unit(const ConvGeometry& g) {
  return gcd(g.group_in(), g.deform_channels());
}

DCNV2_HD float floor_of(float v) { return floorf(v); }
DCNV2_HD double floor_of(double v) { return floor(v); }

// A bilinear sample: its upper left pixel and the distances from it. Sampling has zero padding;
// samples with -1 < y < height and -1 < x < width contribute. A NaN coordinate makes the sampled
// value NaN but contributes to no pixel: the sample is not inside and has no corners.
//
// Derivatives are right-sided everywhere: with the base at floor(y), d value / d y is the
// difference of the two rows around y, also if y is an integer. Right-sided at y = -1 means that a
// sample there has a slope although its value is zero, so the base may be -1 at distance 0, and
// `inside` is -1 <= y < height.
template <class T>
struct Sample {
  int y, x;     // base pixel, -1 .. height - 1 and -1 .. width - 1; 0 where not inside
  T ly, lx;  // distances from the base, 0 <= l <= 1; NaN where the coordinate is NaN, 0 outside
  bool inside;  // false: value and every derivative are 0, unless `nan`
  bool nan;  // a coordinate is NaN
};

// The sample at (y + dy, x + dx), where y and x are whole numbers. Only the offset is split into a
// whole number and a fraction, so that the fraction keeps all its digits however far y and x are
// from 0: y + dy would be rounded.
template <class T, class Size>
DCNV2_HD Sample<T> make_sample(T y, T x, T dy, T dx, Size height, Size width) {
  Sample<T> s;
  const T whole_y = floor_of(dy), whole_x = floor_of(dx);
  const T base_y = y + whole_y, base_x = x + whole_x;
  s.inside = base_y >= T(-1) && base_y < T(height) && base_x >= T(-1) && base_x < T(width);
  s.nan = dy != dy || dx != dx;
  s.y = s.inside ? static_cast<int>(base_y) : 0;
  s.x = s.inside ? static_cast<int>(base_x) : 0;
  const bool near = s.inside || s.nan;  // an infinite offset gives 0, not inf - inf
  s.ly = near ? dy - whole_y : T(0);
  s.lx = near ? dx - whole_x : T(0);
  return s;
}

// Corners in the order (y, x), (y, x+1), (y+1, x), (y+1, x+1).
template <class T>
struct Corners {
  bool valid[4];
  T weight[4];  // bilinear weight; 0 where not valid
};

template <class T, class Size>
DCNV2_HD Corners<T> make_corners(const Sample<T>& s, Size height, Size width) {
  Corners<T> c;
  const bool top = s.inside && s.y >= 0, bottom = s.inside && s.y + 1 < height;
  const bool left = s.x >= 0, right = s.x + 1 < width;
  c.valid[0] = top && left;
  c.valid[1] = top && right;
  c.valid[2] = bottom && left;
  c.valid[3] = bottom && right;
  const T hy = T(1) - s.ly, hx = T(1) - s.lx;
  c.weight[0] = c.valid[0] ? hy * hx : T(0);
  c.weight[1] = c.valid[1] ? hy * s.lx : T(0);
  c.weight[2] = c.valid[2] ? s.ly * hx : T(0);
  c.weight[3] = c.valid[3] ? s.ly * s.lx : T(0);
  return c;
}

// Interpolated value of four corner values (0 at corners that are not valid).
template <class T>
DCNV2_HD T interpolate(const Sample<T>& s, const T v[4]) {
  const T hy = T(1) - s.ly, hx = T(1) - s.lx;
  return hy * (hx * v[0] + s.lx * v[1]) + s.ly * (hx * v[2] + s.lx * v[3]);
}

// d value / d y and d value / d x.
template <class T>
DCNV2_HD T slope_y(const Sample<T>& s, const T v[4]) {
  return (T(1) - s.lx) * (v[2] - v[0]) + s.lx * (v[3] - v[1]);
}
template <class T>
DCNV2_HD T slope_x(const Sample<T>& s, const T v[4]) {
  return (T(1) - s.ly) * (v[1] - v[0]) + s.ly * (v[3] - v[2]);
}

}  // namespace dcnv2
