// SPDX-License-Identifier: BSD-3-Clause
// The arguments that torch.ops.dcnv2.* accept: one check for each operator, shared by the CPU and
// the CUDA library. dcnv2/ops/checks.py checks the same first; these checks protect memory if the
// operators are called directly. Contents of tensors (offsets, boxes, batch indices) are left to
// the kernels.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dtype.h"
#include "geometry.h"
#include "operand_limits.h"
#include "roi_geometry.h"

namespace dcnv2 {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Shape = std::vector<int64_t>;

// Throws, unless the condition holds, what Python receives as a ValueError: one sentence of parts.
// (STD_TORCH_CHECK would put the place in this file before it.)
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream sentence;
  (sentence << ... << parts);
  throw std::invalid_argument(sentence.str());
}

// What the checks read of a tensor: its name in the schema, shape, dtype and device.
struct Operand {
  const char* name;
  bool present;
  Shape sizes;
  ScalarType dtype;
  std::pair<int32_t, int32_t> device;  // type and index

  Operand(const char* name, const Tensor& t)
      : name(name),
        present(true),
        sizes(t.sizes().begin(), t.sizes().end()),
        dtype(t.scalar_type()),
        device(device_of(t)) {}

  Operand(const char* name, const OptionalTensor& t)
      : Operand(t ? Operand(name, *t) : Operand(name)) {}

 private:
  explicit Operand(const char* name) : name(name), present(false), dtype(ScalarType::Float) {}

  static std::pair<int32_t, int32_t> device_of(const Tensor& t) {
    std::pair<int32_t, int32_t> device;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(t.get(), &device.first));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(t.get(), &device.second));
    return device;
  }
};

// A shape as part of a sentence. It is not written before the sentence is: a stream for each check
// would take a tenth of a small call's time.
struct ShapeText {
  const Shape& sizes;

  friend std::ostream& operator<<(std::ostream& out, const ShapeText& text) {
    out << "[";
    for (size_t i = 0; i < text.sizes.size(); ++i) out << (i ? ", " : "") << text.sizes[i];
    return out << "]";
  }
};

inline ShapeText text(const Shape& sizes) { return {sizes}; }

// Throws unless `t` has the shape `wanted`; `axes` names the axes.
inline void check_shape(const Operand& t, const Shape& wanted, const char* axes) {
  require(t.sizes == wanted, t.name, " must have shape ", text(wanted), " (", axes, "), got ",
          text(t.sizes));
}

inline void check_rank(const Operand& t, size_t rank, const char* axes) {
  require(t.sizes.size() == rank, t.name, " must be ", rank, "-dimensional (", axes,
          "), got shape ", text(t.sizes));
}

inline bool is_half(ScalarType dtype) {
  return dtype == ScalarType::Half || dtype == ScalarType::BFloat16;
}

inline void check_floating(const Operand& t) {
  require(t.dtype == ScalarType::Double || t.dtype == ScalarType::Float || is_half(t.dtype), t.name,
          " must be float64, float32, float16 or bfloat16, got ", toString(t.dtype));
}

// The dtype of an operand that passed the checks.
inline Dtype kernel_dtype(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Double:
      return Dtype::kFloat64;
    case ScalarType::Float:
      return Dtype::kFloat32;
    case ScalarType::Half:
      return Dtype::kFloat16;
    default:
      return Dtype::kBFloat16;  // the checks let nothing else through
  }
}

// If operands are on several devices, torch calls the library of one of them.
inline void check_device(const Operand& t, const Operand& input) {
  require(t.device == input.device, t.name, " must be on the device of input");
}

// An operand that is multiplied with the input's values has the input's dtype.
inline void check_like_input(const Operand& t, const Operand& input) {
  require(t.dtype == input.dtype, t.name, " must have the dtype of input, ", toString(input.dtype),
          ", got ", toString(t.dtype));
  check_device(t, input);
}

// Coordinates and modulation may be float32 if the input is half precision.
inline void check_coordinates(const Operand& t, const Operand& input) {
  const bool wider = is_half(input.dtype) && t.dtype == ScalarType::Float;
  require(t.dtype == input.dtype || wider, t.name, " must have the dtype of input, ",
          toString(input.dtype), is_half(input.dtype) ? ", or Float, got " : ", got ",
          toString(t.dtype));
  check_device(t, input);
}

// Throws unless every one of an option's values is within its limit.
template <class T>
void check_limit(const Limit<T>& limit, std::initializer_list<T> values) {
  for (const T value : values) {
    require(value >= limit.least && value <= limit.most, limit.name,  // NaN fails
            " must be between ", limit.least, " and ", limit.most, ", got ", value);
  }
}

// A pair (vertical, horizontal) of options.
inline void check_pair(const Limit<int64_t>& limit, const Shape& pair) {
  require(pair.size() == 2, limit.name, " must hold 2 numbers, got ", pair.size());
  check_limit(limit, {pair[0], pair[1]});
}

inline void check_input(const Operand& input) {
  check_rank(input, 4, "batch, channels, height, width");
  check_floating(input);
  check_limit(kInputSide, {input.sizes[2], input.sizes[3]});
}

// Checks every operand of deform_conv2d and returns its sizes.
inline ConvGeometry check_deform_conv2d(const Operand& input, const Operand& offset,
                                        const Operand& weight, const Operand& bias,
                                        const Operand& mask, const Shape& stride,
                                        const Shape& padding, const Shape& dilation) {
  check_input(input);
  check_rank(offset, 4, "batch, deform_groups * taps * 2, out_height, out_width");
  check_rank(weight, 4, "out_channels, in_channels / groups, kernel_height, kernel_width");
  check_coordinates(offset, input);
  check_like_input(weight, input);
  check_pair(kStride, stride);
  check_pair(kPadding, padding);
  check_pair(kDilation, dilation);
  for (const int64_t size : weight.sizes) check_limit(kWeightAxis, {size});
  require(input.sizes[1] >= 1, "input must have at least one channel, got shape ",
          text(input.sizes));

  ConvGeometry g;
  g.batch = input.sizes[0];
  g.in_channels = input.sizes[1];
  g.height = input.sizes[2];
  g.width = input.sizes[3];
  g.out_channels = weight.sizes[0];
  g.kernel_h = weight.sizes[2];
  g.kernel_w = weight.sizes[3];
  g.stride_h = stride[0];
  g.stride_w = stride[1];
  g.pad_h = padding[0];
  g.pad_w = padding[1];
  g.dilation_h = dilation[0];
  g.dilation_w = dilation[1];
  g.out_height = out_size(g.height, g.kernel_h, g.stride_h, g.pad_h, g.dilation_h);
  g.out_width = out_size(g.width, g.kernel_w, g.stride_w, g.pad_w, g.dilation_w);
  require(g.out_height >= 1 && g.out_width >= 1,
          "input is smaller than the kernel: the output would be ", g.out_height, " x ",
          g.out_width, " for an input of shape ", text(input.sizes), " and a weight of shape ",
          text(weight.sizes));

  require(g.in_channels % weight.sizes[1] == 0,
          "weight's second axis (in_channels / groups) must divide the ", g.in_channels,
          " channels of input, got shape ", text(weight.sizes));
  g.groups = g.in_channels / weight.sizes[1];
  require(g.out_channels % g.groups == 0, "weight's first axis (out_channels) must be a ",
          "multiple of the ", g.groups, " groups, got shape ", text(weight.sizes));

  const int64_t per_group = 2 * g.taps();
  require(offset.sizes[1] >= per_group && offset.sizes[1] % per_group == 0,
          "offset's second axis must be deform_groups * ", per_group,
          " (two numbers a tap), got shape ", text(offset.sizes));
  g.deform_groups = offset.sizes[1] / per_group;
  require(g.in_channels % g.deform_groups == 0, "offset asks for ", g.deform_groups,
          " deform groups, which must divide the ", g.in_channels, " channels of input");
  check_shape(offset, {g.batch, g.deform_groups * per_group, g.out_height, g.out_width},
              "batch, deform_groups * taps * 2, out_height, out_width");
  if (mask.present) {
    check_coordinates(mask, input);
    check_shape(mask, {g.batch, g.deform_groups * g.taps(), g.out_height, g.out_width},
                "batch, deform_groups * taps, out_height, out_width");
  }
  if (bias.present) {
    check_like_input(bias, input);
    check_shape(bias, {g.out_channels}, "out_channels");
  }
  return g;
}

// The gradient that a backward pass receives has the dtype and shape of the output.
inline void check_grad_output(const Operand& grad_output, const Operand& input,
                              const Shape& output_shape) {
  check_like_input(grad_output, input);
  check_shape(grad_output, output_shape, "the output's shape");
}

// Checks the operands that both RoI poolings share, except the shape of the offset.
inline RoiPoolGeometry check_rois(const Operand& input, const Operand& rois, const Operand& offset,
                                  const Operand& mask, const Shape& output_size,
                                  double spatial_scale, double offset_scale) {
  check_input(input);
  require(input.sizes[1] >= 1 && input.sizes[2] >= 1 && input.sizes[3] >= 1, input.name,
          " must have channels and pixels, got ", text(input.sizes));
  check_coordinates(rois, input);
  check_rank(rois, 2, "rois, 5");
  check_shape(rois, {rois.sizes[0], 5}, "rois, batch index and x1, y1, x2, y2");
  check_pair(kOutputSize, output_size);
  check_limit(kSpatialScale, {spatial_scale});

  RoiPoolGeometry g{};
  g.rois = rois.sizes[0];
  g.batch = input.sizes[0];
  g.channels = g.out_channels = input.sizes[1];
  g.levels = 1;
  g.level[0] = {input.sizes[2], input.sizes[3], spatial_scale};
  g.pooled_h = output_size[0];
  g.pooled_w = output_size[1];
  g.offset_scale = offset_scale;
  g.aligned = true;
  g.group_size = g.part_size = g.classes = 1;
  require(g.rois == 0 || g.batch > 0, "rois must be empty where ", input.name,
          " has no image, got ", text(rois.sizes));
  if (mask.present) {
    check_coordinates(mask, input);
    check_shape(mask, {g.rois, 1, g.pooled_h, g.pooled_w}, "rois, 1, pooled_height, pooled_width");
  }
  if (offset.present) check_coordinates(offset, input);
  return g;
}

// Checks every operand of deform_roi_pool and returns its sizes.
inline RoiPoolGeometry check_deform_roi_pool(const Operand& input, const Operand& rois,
                                             const Operand& offset, const Operand& mask,
                                             const Shape& output_size, double spatial_scale,
                                             int64_t sampling_ratio, double gamma) {
  static_assert(kSamplingRatio.most == kMostSamples && kSamplePerPart.most == kMostSamples);
  check_limit(kGamma, {gamma});
  check_limit(kSamplingRatio, {sampling_ratio});
  RoiPoolGeometry g = check_rois(input, rois, offset, mask, output_size, spatial_scale, gamma);
  g.sampling = sampling_ratio;
  if (offset.present) {
    check_shape(offset, {g.rois, 2, g.pooled_h, g.pooled_w},
                "rois, 2, pooled_height, pooled_width");
  }
  return g;
}

// The names of the maps of multiscale_roi_align.
constexpr const char* kInputNames[kMostLevels] = {"inputs[0]", "inputs[1]", "inputs[2]",
                                                  "inputs[3]", "inputs[4]", "inputs[5]",
                                                  "inputs[6]", "inputs[7]"};

// Checks every operand of multiscale_roi_align and returns its sizes.
inline RoiPoolGeometry check_multiscale_roi_align(const std::vector<Operand>& inputs,
                                                  const Operand& rois, const Operand& levels,
                                                  const Shape& output_size,
                                                  const std::vector<double>& spatial_scales,
                                                  int64_t sampling_ratio, bool aligned) {
  require(!inputs.empty() && inputs.size() <= size_t(kMostLevels), "inputs must be 1 to ",
          kMostLevels, " maps, got ", inputs.size());
  require(spatial_scales.size() == inputs.size(), "spatial_scales must hold a number for each of ",
          inputs.size(), " maps, got ", spatial_scales.size());
  constexpr Limit<double> kScales{"spatial_scales", kSpatialScale.least, kSpatialScale.most};
  for (const double scale : spatial_scales) check_limit(kScales, {scale});
  check_limit(kSamplingRatio, {sampling_ratio});
  const Operand absent("none", OptionalTensor());
  RoiPoolGeometry g{};
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_like_input(inputs[i], inputs[0]);
    const RoiPoolGeometry of =
        check_rois(inputs[i], rois, absent, absent, output_size, spatial_scales[i], 0);
    if (i == 0) g = of;
    require(of.batch == g.batch && of.channels == g.channels,
            "inputs must have the same batch and ", "channels, got ", text(inputs[0].sizes),
            " and ", text(inputs[i].sizes));
    g.level[i] = of.level[0];
  }
  require(levels.dtype == ScalarType::Long, "levels must be int64, got ", toString(levels.dtype));
  check_device(levels, inputs[0]);
  check_shape(levels, {g.rois}, "rois");
  g.levels = int(inputs.size());
  g.sampling = sampling_ratio;
  g.aligned = aligned;
  return g;
}

// Checks every operand of deform_psroi_pool and returns its sizes.
inline RoiPoolGeometry check_deform_psroi_pool(const Operand& input, const Operand& rois,
                                               const Operand& offset, const Operand& mask,
                                               int64_t output_size, double spatial_scale,
                                               int64_t group_size, int64_t part_size,
                                               int64_t sample_per_part, double trans_std) {
  check_limit(kTransStd, {trans_std});
  check_limit(kGroupSize, {group_size});
  check_limit(kPartSize, {part_size});
  check_limit(kSamplePerPart, {sample_per_part});
  RoiPoolGeometry g =
      check_rois(input, rois, offset, mask, {output_size, output_size}, spatial_scale, trans_std);
  g.sampling = sample_per_part;
  g.group_size = group_size;
  g.part_size = part_size;
  require(g.channels % (group_size * group_size) == 0, "input must have a multiple of ",
          group_size * group_size, " channels (group_size squared), got ", g.channels);
  g.out_channels = g.channels / (group_size * group_size);
  if (offset.present) {
    check_rank(offset, 4, "rois, 2 * classes, part_size, part_size");
    require(offset.sizes[1] >= 2 && offset.sizes[1] % 2 == 0,
            "offset's second axis must be 2 * classes, got shape ", text(offset.sizes));
    g.classes = offset.sizes[1] / 2;
    check_shape(offset, {g.rois, 2 * g.classes, part_size, part_size},
                "rois, 2 * classes, part_size, part_size");
    require(g.out_channels % g.classes == 0, "offset asks for ", g.classes,
            " classes, which must divide the ", g.out_channels, " channels of the output");
  }
  return g;
}

}  // namespace dcnv2
