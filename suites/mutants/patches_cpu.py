# SPDX-License-Identifier: BSD-3-Clause
"""Faults in the kernels of the CPU library."""

from suites.mutants.patches import (
    EQUALS,
    EXTREME,
    FROZEN,
    KERNELS_OF_CPU,
    POOL,
    POOLS_OF_CPU,
    Patch,
)

_FORWARD, _WEIGHT = "deform_conv2d_forward.cpp", "deform_conv2d_grad_weight.cpp"
_INPUT, _PLACE = "deform_conv2d_grad_input.cpp", "deform_conv2d_grad_offset_mask.cpp"


def _file(name, file, old, new, detected_by=EQUALS, built=None) -> Patch:
    return Patch(name, f"cpu/{file}", old, new, detected_by, built or (file,))


CPU = [
    _file(
        "y and x of an offset exchanged",
        "conv_samples.cpp",
        """2 * channel, pixels);
  const T* offset_x = plane(operands_.offset, 2 * channel + 1, pixels);""",
        """2 * channel + 1, pixels);
  const T* offset_x = plane(operands_.offset, 2 * channel, pixels);""",
    ),
    _file(
        "mask never applied",
        "conv_samples.cpp",
        "operands_.mask ? plane(operands_.mask, channel, pixels) : ones_.data()",
        "ones_.data()",
    ),
    _file(
        "mask read at the deform group's number",
        "conv_samples.cpp",
        "plane(operands_.mask, channel, pixels)",
        "plane(operands_.mask, deform_group, pixels)",
    ),
    _file(
        "NaN sampled as zero",
        "conv_samples.cpp",
        "std::fill_n(out, channels, std::numeric_limits<T>::quiet_NaN());",
        "std::fill_n(out, channels, T(0));",
        EXTREME,
    ),
    _file(
        "earlier taps and the bias overwritten",
        _FORWARD,
        "product.accumulate = true;",
        "product.accumulate = false;",
    ),
    _file(
        "bias of the first channel for all",
        _FORWARD,
        "bias_ ? std::copy_n(bias_, g_.out_channels, row)",
        "bias_ ? std::fill_n(row, g_.out_channels, bias_[0])",
    ),
    _file(
        "every weight group multiplies the first group's channels",
        _FORWARD,
        "const int64_t begin = group * g_.group_in(), end",
        "const int64_t begin = 0, end",
    ),
    _file(
        "every deform group samples the first one's channels",
        _FORWARD,
        "image_rows(input_, g_, pixels.image, d * channels);",
        "image_rows(input_, g_, pixels.image, 0);",
    ),
    _file(
        "mask left out of the input's gradient",
        _INPUT,
        "corners.weight[i] * sample.mask;",
        "corners.weight[i];",
    ),
    _file(
        "sums of the last image kept",
        _INPUT,
        "std::fill_n(sums_.data(), g_.height * g_.width * channels, T(0));",
        "if (sums_.data() == nullptr) return;",
    ),
    _file(
        "mask left out of the offset's gradient",
        _PLACE,
        "samples.mask(p) * slope_y(place, dots + 4 * p)",
        "slope_y(place, dots + 4 * p)",
    ),
    _file(
        "shares of a deform group overwritten",
        _PLACE,
        "total[i] += share[i];",
        "total[i] = share[i];",
    ),
    _file(
        "gradients of y and x exchanged",
        _PLACE,
        """planes, 1);
    ++range.channel;
    store_rows(grad_offset_, range, planes + plane_stride, 1);""",
        """planes + plane_stride, 1);
    ++range.channel;
    store_rows(grad_offset_, range, planes, 1);""",
    ),
    _file(
        "weight's gradient of the last pixels alone",
        _WEIGHT,
        "product.accumulate = true;",
        "product.accumulate = false;",
    ),
    _file(
        "weight's gradient of at most 32 images",
        _WEIGHT,
        """    for (int64_t n = 0; n < g_.batch; ++n) {
      for (int64_t first""",
        """    for (int64_t n = 0; n < std::min<int64_t>(g_.batch, 32); ++n) {
      for (int64_t first""",
    ),
    _file(
        "bias's gradient of the first image alone",
        _WEIGHT,
        "{n, first, count, p, pixels, g.out_width}, rows",
        "{0, first, count, p, pixels, g.out_width}, rows",
    ),
    _file(
        "rows of an image taken for adjacent",
        "layout.cpp",
        "const bool flat = stride[2] == r.width * stride[3];",
        "const bool flat = true;",
    ),
    _file(
        "channels taken for adjacent",
        "layout.cpp",
        "|| !adjacent || even == 0) return;",
        "|| even == 0) return;",
    ),
    _file(
        "gradients of offset and mask only beside the input's",
        "conv_ops.cpp",
        "if (samples.input || samples.offset || samples.mask) {",
        "if (samples.input) {",
        FROZEN,
    ),
    _file(
        "odd channels overwritten",
        "kernels.inl",
        "row[c] += weight * grad[c];",
        "row[c] = weight * grad[c];",
        EQUALS,
        KERNELS_OF_CPU,
    ),
    _file(
        "two corners exchanged where all four lie on the map",
        "sample_kernels.inl",
        "weight[p + weight_stride] = upper * s.lx;",
        "weight[p + weight_stride] = lower * (T(1) - s.lx);",
        EQUALS,
        KERNELS_OF_CPU,
    ),
    _file(
        "samples that lack a row taken for whole",
        "sample_kernels.inl",
        "s.inside && s.y >= 0 && s.y <= last_y",
        "s.inside && s.y >= 0",
        EQUALS,
        KERNELS_OF_CPU,
    ),
    _file(
        "channels beyond whole vectors left out of dot products",
        "sample_kernels.inl",
        "dots[4 * p + i] += from[c] * at.row[i][c];",
        "dots[4 * p + i] += T(0);",
        EQUALS,
        KERNELS_OF_CPU,
    ),
    _file(
        "mask of a pooling left out",
        "roi_pool_passes.h",
        "out[c] / bin_.divisor() * mask;",
        "out[c] / bin_.divisor();",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "x and y of a bin's offset exchanged",
        "roi_bins.h",
        "{r, 2 * cls, 2, part, 1, parts_w}, offset, 2);",
        "{r, 2 * cls, 2, part, 1, parts_w}, offset, 2); std::swap(offset[0], offset[1]);",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "samples off the map left out of the centred mean",
        "roi_bins.h",
        "static int64_t counted(int64_t samples, int64_t) { return samples; }",
        "static int64_t counted(int64_t, int64_t kept) { return kept; }",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "every image gets the gradients of all regions",
        "roi_pool_passes.h",
        "if (rois_.image(r) != image) continue;",
        "if (rois_.image(r) < 0) continue;",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "last bin of a part gives all of its gradient",
        "roi_pool_passes.h",
        "to[0] += share[0];",
        "to[0] = share[0];",
        POOL,
        POOLS_OF_CPU,
    ),
    _file(
        "rows and columns of a position-sensitive group exchanged",
        "roi_pool_passes.h",
        "return Rule::group(g, bin_y, g.pooled_h) * g.group_size + "
        "Rule::group(g, bin_x, g.pooled_w);",
        "return Rule::group(g, bin_x, g.pooled_w) * g.group_size + "
        "Rule::group(g, bin_y, g.pooled_h);",
        POOL,
        POOLS_OF_CPU,
    ),
]
