# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the kernels of the CPU library."""

from suites.mutants.patches import (
    COLUMN,
    EQUALS,
    EXTREME,
    FROZEN,
    KERNELS_OF_CPU,
    ONE_PIXEL,
    POOL,
    POOLS_OF_CPU,
    PYRAMID,
    Patch,
)

_FORWARD, _GRAD_WEIGHT = "deform_conv2d_forward.cpp", "deform_conv2d_grad_weight.cpp"
_GRAD_INPUT = "deform_conv2d_grad_input.cpp"
_GRAD_OFFSET_MASK = "deform_conv2d_grad_offset_mask.cpp"

_CONV_SAMPLES = "conv_samples.cpp"
_ROI_POOL_PASSES = "roi_pool_passes.h"
_SAMPLE_KERNELS = "sample_kernels.inl"


def _file(name, file, old, new, detected_by=EQUALS, built=None) -> Patch:
    return Patch(name, f"cpu/{file}", old, new, detected_by, built or (file,))


CPU = [
    _file(
        "y and x of an offset exchanged",
        _CONV_SAMPLES,
        """2 * channel, pixels);
  const T* offset_x = plane(operands_.offset, 2 * channel + 1, pixels);""",
        """2 * channel + 1, pixels);
  const T* offset_x = plane(operands_.offset, 2 * channel, pixels);""",
    ),
    _file(
        "mask never applied",
        _CONV_SAMPLES,
        "operands_.mask ? plane(operands_.mask, channel, pixels) : ones_.data()",
        "ones_.data()",
    ),
    _file(
        "mask read at channel `deform_group`",
        _CONV_SAMPLES,
        "plane(operands_.mask, channel, pixels)",
        "plane(operands_.mask, deform_group, pixels)",
    ),
    _file(
        "NaN coordinates sample zero",
        _CONV_SAMPLES,
        "std::fill_n(out, channels, std::numeric_limits<T>::quiet_NaN());",
        "std::fill_n(out, channels, T(0));",
        EXTREME,
    ),
    _file(
        "output overwritten instead of accumulated",
        _FORWARD,
        "product.accumulate = true;",
        "product.accumulate = false;",
    ),
    _file(
        "bias of the first channel used for all",
        _FORWARD,
        "bias_ ? std::copy_n(bias_, g_.out_channels, row)",
        "bias_ ? std::fill_n(row, g_.out_channels, bias_[0])",
    ),
    _file(
        "first weight group's channels multiplied for every group",
        _FORWARD,
        "const int64_t begin = group * g_.group_in(), end",
        "const int64_t begin = 0, end",
    ),
    _file(
        "first deform group's channels sampled for every group",
        _FORWARD,
        "image_rows(input_, g_, pixels.image, d * channels);",
        "image_rows(input_, g_, pixels.image, 0);",
    ),
    _file(
        "forward of one pixel: columns of the first group",
        "one_pixel_forward.cpp",
        ".b = columns_.data() + group * depth + k",
        ".b = columns_.data() + k",
        ONE_PIXEL,
    ),
    _file(
        "columns of one pixel: sampled by the first deform group",
        "one_pixel.cpp",
        "samples_.locate({image, 0, 1}, span.group, tap);",
        "samples_.locate({image, 0, 1}, 0, tap);",
        ONE_PIXEL,
    ),
    _file(
        "grad_columns of one pixel: only the last output channels",
        "one_pixel_grad_columns.h",
        "product.accumulate = out > 0;",
        "product.accumulate = false;",
        ONE_PIXEL,
        ("deform_conv2d_grad_samples.cpp",),
    ),
    _file(
        "grad_columns of one pixel: of the task's first image",
        "one_pixel_grad_columns.h",
        "image_ = pixel.image - first_image_;",
        "image_ = 0;",
        ONE_PIXEL,
        ("deform_conv2d_grad_samples.cpp",),
    ),
    _file(
        "grad_weight of one pixel: columns of the first group of a task",
        "one_pixel_grad_weight.cpp",
        "product.b = columns_.data() + (part.begin - begin) * g_.taps();",
        "product.b = columns_.data();",
        ONE_PIXEL,
    ),
    _file(
        "grad_weight of one pixel: taps in the order of another layout",
        "one_pixel.cpp",
        "load_rows(taps_of_row(g_, row), {0, 0, channels, 0, taps, taps}, sorted.data(), "
        "channels);",
        "std::copy_n(row, taps * channels, sorted.data());",
        ONE_PIXEL,
    ),
    _file(
        "grad_input: mask dropped",
        _GRAD_INPUT,
        "corners.weight[i] * sample.mask;",
        "corners.weight[i];",
    ),
    _file(
        "grad_input: sums of the previous image not cleared",
        _GRAD_INPUT,
        "std::fill_n(sums_.data(), g_.height * g_.width * channels, T(0));",
        "if (sums_.data() == nullptr) return;",
    ),
    _file(
        "grad_offset: mask dropped",
        _GRAD_OFFSET_MASK,
        "samples.mask(p) * slope_y(place, dots + 4 * p)",
        "slope_y(place, dots + 4 * p)",
    ),
    _file(
        "grad_offset: partial sums of a deform group overwritten",
        _GRAD_OFFSET_MASK,
        "total[i] += share[i];",
        "total[i] = share[i];",
    ),
    _file(
        "grad_offset: y and x exchanged",
        _GRAD_OFFSET_MASK,
        """planes, 1);
    ++range.channel;
    store_rows(grad_offset_, range, planes + plane_stride, 1);""",
        """planes + plane_stride, 1);
    ++range.channel;
    store_rows(grad_offset_, range, planes, 1);""",
    ),
    _file(
        "grad_weight only of the last pixels",
        _GRAD_WEIGHT,
        "product.accumulate = true;",
        "product.accumulate = false;",
    ),
    _file(
        "grad_weight of at most 32 images",
        _GRAD_WEIGHT,
        """    for (int64_t n = 0; n < g_.batch; ++n) {
      for (int64_t first""",
        """    for (int64_t n = 0; n < std::min<int64_t>(g_.batch, 32); ++n) {
      for (int64_t first""",
    ),
    _file(
        "grad_bias only of the first image",
        _GRAD_WEIGHT,
        "{n, first, count, p, pixels, g.out_width}, rows",
        "{0, first, count, p, pixels, g.out_width}, rows",
    ),
    _file(
        "rows of an image assumed to be adjacent in memory",
        "layout.cpp",
        "const bool flat = stride[2] == r.width * stride[3];",
        "const bool flat = true;",
    ),
    _file(
        "pixels assumed to be evenly spaced in memory",
        "layout.cpp",
        "return height == 1 || view.stride[2] == width * view.stride[3] ? view.stride[3] : 0;",
        "return view.stride[3];",
    ),
    _file(
        "one column assumed to be contiguous",
        "layout.cpp",
        "if (width == 1) return height == 1 ? 1 : view.stride[2];",
        "if (width == 1) return 1;",
        COLUMN,
    ),
    _file(
        "planes of a crop read as one run",
        "layout.cpp",
        "from.stride[1] == 1 &&\n      from.stride[2] == range.width * from.stride[3])",
        "from.stride[1] == 1)",
    ),
    _file(
        "channels assumed to be adjacent in memory",
        "layout.cpp",
        "|| !adjacent || even == 0) return;",
        "|| even == 0) return;",
    ),
    _file(
        "grad_offset and grad_mask only together with grad_input",
        "conv_ops.cpp",
        "if (samples.input || samples.offset || samples.mask) {",
        "if (samples.input) {",
        FROZEN,
    ),
    _file(
        "grad_input: remaining channels overwritten instead of accumulated",
        "kernels.inl",
        "row[c] += weight * grad[c];",
        "row[c] = weight * grad[c];",
        EQUALS,
        KERNELS_OF_CPU,
    ),
    _file(
        "two corners exchanged where all four are on the map",
        _SAMPLE_KERNELS,
        "weight[p + weight_stride] = upper * s.lx;",
        "weight[p + weight_stride] = lower * (T(1) - s.lx);",
        EQUALS,
        KERNELS_OF_CPU,
    ),
    _file(
        "samples without a lower row treated as having all corners",
        _SAMPLE_KERNELS,
        "s.inside && s.y >= 0 && s.y <= last_y",
        "s.inside && s.y >= 0",
        EQUALS,
        KERNELS_OF_CPU,
    ),
    _file(
        "channels after whole vectors left out of dot products",
        _SAMPLE_KERNELS,
        "dots[4 * p + i] += from[c] * at.row[i][c];",
        "dots[4 * p + i] += T(0);",
        EQUALS,
        KERNELS_OF_CPU,
    ),
    _file(
        "pooling: mask dropped",
        _ROI_POOL_PASSES,
        "out[c] / bin_.divisor() * mask;",
        "out[c] / bin_.divisor();",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "pooling: x and y of an offset exchanged",
        "roi_bins.h",
        "{r, 2 * cls, 2, part, 1, parts_w}, offset, 2);",
        "{r, 2 * cls, 2, part, 1, parts_w}, offset, 2); std::swap(offset[0], offset[1]);",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "centred pooling: samples off the map not counted",
        "roi_bins.h",
        "static int64_t counted(int64_t samples, int64_t) { return samples; }",
        "static int64_t counted(int64_t, int64_t kept) { return kept; }",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "pooling: gradients of all RoIs added to every image",
        _ROI_POOL_PASSES,
        "if (rois_.image(r) != image || ",
        "if (rois_.image(r) < 0 || ",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "pyramid: gradients of RoIs of all levels added to every map",
        _ROI_POOL_PASSES,
        " || rois_.level(r) != level) continue;",
        ") continue;",
        PYRAMID,
        POOLS_OF_CPU,
    ),
    _file(
        "pyramid: RoIs beyond the first map pooled from it",
        "roi_bins.h",
        "levels_[r] = of >= 0 && of < g.levels ? of : 0;",
        "levels_[r] = 0;",
        PYRAMID,
        POOLS_OF_CPU,
    ),
    _file(
        "pyramid: padding pooled from the first map",
        "roi_bins.h",
        "if (of < 0) images_[r] = kPaddingRoi;",
        "",
        PYRAMID,
        POOLS_OF_CPU,
    ),
    _file(
        "pooling: gradient of a part only from its last bin",
        _ROI_POOL_PASSES,
        "to[0] += share[0];",
        "to[0] = share[0];",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "pooling: rows and columns of channel groups exchanged",
        _ROI_POOL_PASSES,
        "return Rule::group(g, bin_y, g.pooled_h) * g.group_size + "
        "Rule::group(g, bin_x, g.pooled_w);",
        "return Rule::group(g, bin_x, g.pooled_w) * g.group_size + "
        "Rule::group(g, bin_y, g.pooled_h);",
        POOL,
        POOLS_OF_CPU,
    ),
]
