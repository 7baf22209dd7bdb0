// SPDX-License-Identifier: BSD-3-Clause
// One bin of a RoI pooling by any rule; all passes use it.
#pragma once

#include "cuda/common/vec16.cuh"
#include "cuda/common/common.cuh"
#include "cuda/dispatch/roi_passes.h"

namespace dcnv2::cuda {

// ---- Rules

// What the kernels are compiled for: deform_roi_pool, deform_psroi_pool, and multiscale_roi_align,
// which is deform_roi_pool from several levels without offsets and mask.
struct AlignRule {
  static constexpr bool kPsroi = false, kMultiscale = false;
};
struct PsroiRule {
  static constexpr bool kPsroi = true, kMultiscale = false;
};
struct MultiscaleRule {
  static constexpr bool kPsroi = false, kMultiscale = true;
};

// A member `level` that is the constant 0 unless there are several.
template <class Rule, bool = Rule::kMultiscale>
struct HasLevel {
  int level = 0;
};
template <class Rule>
struct HasLevel<Rule, false> {
  static constexpr int level = 0;
};

// ---- Bin

template <class Acc, class Rule>
struct RoiBin : HasLevel<Rule> {
  int64_t image;  // or kNoImage, or kPaddingRoi
  BinAxis<Acc> y, x;

  // The bin (bin_y, bin_x) of roi r with the offset of class `cls`.
  __device__ RoiBin(const RoiPoolArgs& a, int64_t r, int64_t bin_y, int64_t bin_x, int64_t cls) {
    const RoiPoolGeometry& g = a.g;
    auto roi = [&](int64_t i) {
      return load_as<Acc>(a.rois.data, a.rois.dtype, a.rois.index(r, i, 0, 0));
    };
    const Acc index = roi(0);
    const bool usable = isfinite(roi(1) + roi(2) + roi(3) + roi(4)) && index >= Acc(0);
    image = usable && index < Acc(g.batch) ? static_cast<int64_t>(index) : kNoImage;
    if constexpr (Rule::kMultiscale) {
      const int64_t of = a.levels[r * a.levels_stride];
      if (of >= 0 && of < g.levels) {
        this->level = static_cast<int>(of);
      } else {
        image = of < 0 ? kPaddingRoi : kNoImage;
      }
    }

    const int64_t part_y = Rule::kPsroi ? psroi_part(bin_y, g.pooled_h, g.part_size) : bin_y;
    const int64_t part_x = Rule::kPsroi ? psroi_part(bin_x, g.pooled_w, g.part_size) : bin_x;
    Acc offset_y = 0, offset_x = 0;
    if (!Rule::kMultiscale && a.offset.data != nullptr) {
      const int64_t at = a.offset.index(r, 2 * cls, part_y, part_x);
      offset_x = load_as<Acc>(a.offset.data, a.offset.dtype, at);
      offset_y = load_as<Acc>(a.offset.data, a.offset.dtype, at + a.offset.stride_c);
    }
    const Acc scale = Acc(g.level[this->level].spatial_scale), shift = Acc(g.offset_scale);
    if constexpr (Rule::kPsroi) {
      y = psroi_bin_axis(psroi_roi_axis(roi(2), roi(4), scale), bin_y, g.pooled_h, g.sampling,
                         offset_y, shift);
      x = psroi_bin_axis(psroi_roi_axis(roi(1), roi(3), scale), bin_x, g.pooled_w, g.sampling,
                         offset_x, shift);
    } else {
      const bool aligned = !Rule::kMultiscale || g.aligned;
      y = align_bin_axis(align_roi_axis(roi(2), roi(4), scale, aligned), bin_y, g.pooled_h,
                         g.sampling, offset_y, shift);
      x = align_bin_axis(align_roi_axis(roi(1), roi(3), scale, aligned), bin_x, g.pooled_w,
                         g.sampling, offset_x, shift);
    }
  }

  __device__ static AxisSample<Acc> sample(const BinAxis<Acc>& axis, int64_t i, int64_t size) {
    const Acc position = axis.first + Acc(i) * axis.step;
    return Rule::kPsroi ? psroi_axis_sample(position, size) : align_axis_sample(position, size);
  }

  // Whether a coordinate is NaN; then the output of the bin is NaN.
  __device__ bool nan() const {
    return (y.first != y.first || x.first != x.first) && y.count > 0 && x.count > 0;
  }

  // The divisor of the sum of a bin's samples.
  __device__ Acc divisor(const RoiPoolGeometry& g) const {
    if constexpr (!Rule::kPsroi) return Acc(max(y.count * x.count, int64_t(1)));
    int64_t kept_y = 0, kept_x = 0;
    for (int64_t i = 0; i < y.count; ++i) kept_y += sample(y, i, g.level[0].height).counts;
    for (int64_t i = 0; i < x.count; ++i) kept_x += sample(x, i, g.level[0].width).counts;
    return Acc(max(kept_y * kept_x, int64_t(1)));
  }
};

// The input channel that an output channel of a bin reads, and the class of its offset.
template <class Rule>
__device__ __forceinline__ int64_t bin_channel(const RoiPoolGeometry& g, int64_t out_channel,
                                               int64_t bin_y, int64_t bin_x) {
  if constexpr (!Rule::kPsroi) return out_channel;
  return (out_channel * g.group_size + psroi_group(bin_y, g.pooled_h, g.group_size)) *
             g.group_size +
         psroi_group(bin_x, g.pooled_w, g.group_size);
}
__device__ __forceinline__ int64_t bin_class(const RoiPoolGeometry& g, int64_t out_channel) {
  return out_channel / (g.out_channels / g.classes);
}

// The modulation of a bin, 1 without a mask.
template <class Acc, class Rule>
__device__ __forceinline__ Acc bin_mask(const RoiPoolArgs& a, int64_t r, int64_t bin_y,
                                        int64_t bin_x) {
  if (Rule::kMultiscale || a.mask.data == nullptr) return Acc(1);
  return load_as<Acc>(a.mask.data, a.mask.dtype, a.mask.index(r, 0, bin_y, bin_x));
}

// ---- Channels of a thread

// The number of consecutive channels of a thread: one, or a vector.
template <class T>
struct Single {
  using element = T;
  static constexpr int kCount = 1;
  using Acc = accumulator_t<T>;
  static __device__ void load(const T* at, Acc (&v)[1]) { v[0] = widen(*at); }
  static __device__ void store(T* at, const Acc (&v)[1]) { *at = narrow<T>(v[0]); }
};
template <class T>
struct Vec16 {
  using element = T;
  static constexpr int kCount = kVecSize<T>;
  static __device__ void load(const T* at, float (&v)[kCount]) {
    for (float& x : v) x = 0;
    fma_vec16(load_vec16(reinterpret_cast<const char*>(at)), 1.0f, v, T{});
  }
  static __device__ void store(T* at, const float (&v)[kCount]) {
    *reinterpret_cast<uint4*>(at) = make_vec16(v, T{});
  }
};

// ---- Sums

// Sums of a bin's samples for a few channels: values, and derivatives with respect to the position.
template <class Acc, int kCount>
struct BinSums {
  Acc value[kCount], slope_y[kCount], slope_x[kCount];
};

template <class Channels, class Rule, class Acc = accumulator_t<typename Channels::element>>
__device__ BinSums<Acc, Channels::kCount> bin_sums(const RoiPoolArgs& a,
                                                   const RoiBin<Acc, Rule>& bin, int64_t channel) {
  using T = typename Channels::element;
  constexpr int kCount = Channels::kCount;
  const RoiPoolGeometry& g = a.g;
  BinSums<Acc, kCount> sums;
  const Acc start = bin.nan() ? Acc(NAN) : Acc(0);
#pragma unroll
  for (int k = 0; k < kCount; ++k) sums.value[k] = sums.slope_y[k] = sums.slope_x[k] = start;
  if (bin.nan()) return sums;
  const int64_t height = g.level[bin.level].height, width = g.level[bin.level].width;
  const T* image =
      static_cast<const T*>(a.input[bin.level]) + bin.image * height * width * g.channels + channel;
  for (int64_t i = 0; i < bin.y.count; ++i) {
    const AxisSample<Acc> sy = bin.sample(bin.y, i, height);
    if (!sy.counts) continue;
    const T* low = image + sy.low * width * g.channels;
    const T* high = image + sy.high * width * g.channels;
    for (int64_t j = 0; j < bin.x.count; ++j) {
      const AxisSample<Acc> sx = bin.sample(bin.x, j, width);
      if (!sx.counts) continue;
      const int64_t left = sx.low * g.channels, right = sx.high * g.channels;
      Acc v00[kCount], v01[kCount], v10[kCount], v11[kCount];
      Channels::load(low + left, v00);
      Channels::load(low + right, v01);
      Channels::load(high + left, v10);
      Channels::load(high + right, v11);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const Acc across = v01[k] - v00[k], further = v11[k] - v10[k];
        const Acc top = v00[k] + sx.frac * across, bottom = v10[k] + sx.frac * further;
        sums.value[k] += top + sy.frac * (bottom - top);
        if (sy.moves) sums.slope_y[k] += bottom - top;
        if (sx.moves) sums.slope_x[k] += across + sy.frac * (further - across);
      }
    }
  }
  return sums;
}

// ---- Dispatch

// Whether a vector of output channels is also a vector of input channels. It is not if channels are
// position sensitive, or if a vector would belong to two classes.
inline bool takes_vec16(const RoiPoolArgs& a) {
  const int64_t vec = a.dtype == Dtype::kFloat64 ? 0 : a.dtype == Dtype::kFloat32 ? 4 : 8;
  return vec > 0 && a.g.group_size == 1 && a.g.out_channels / a.g.classes % vec == 0;
}

// Calls f(rule).
template <class F>
void dispatch_rule(const RoiPoolArgs& a, F f) {
  if (a.levels != nullptr) return f(MultiscaleRule{});
  a.psroi ? f(PsroiRule{}) : f(AlignRule{});
}

// Calls f(channels of a thread, rule).
template <class F>
void dispatch_pool(const RoiPoolArgs& a, F f) {
  auto with = [&](auto channels) { dispatch_rule(a, [&](auto rule) { f(channels, rule); }); };
  dispatch(a.dtype, [&](auto element) {
    using T = decltype(element);
    if constexpr (!std::is_same_v<T, double>) {
      if (takes_vec16(a)) return with(Vec16<T>{});
    }
    with(Single<T>{});
  });
}

}  // namespace dcnv2::cuda
