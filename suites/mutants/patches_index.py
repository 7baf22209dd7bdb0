# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of both libraries with 32-bit indices, which only a large tensor overflows."""

from suites.mutants.patches import KERNELS_OF_CPU, LARGE, LARGE_POOL, POOLS_OF_CPU, SPREAD, Patch

_SAMPLES = ("conv_samples.cpp", "deform_conv2d_grad_offset_mask.cpp")

INDEX = [
    Patch(
        "32-bit index of images and channels of an operand",
        "cpu/layout.cpp",
        "r.image * stride[0] + r.channel * stride[1];",
        "int32_t(r.image * stride[0] + r.channel * stride[1]);",
        SPREAD,
        ("layout.cpp",),
    ),
    Patch(
        "32-bit index of rows and columns of an operand",
        "cpu/layout.cpp",
        "Move::run(image + y * stride[2] + x * stride[3],",
        "Move::run(image + int32_t(y * stride[2] + x * stride[3]),",
        SPREAD,
        ("layout.cpp",),
    ),
    Patch(
        "32-bit index of a plane of offsets",
        "cpu/conv_samples.cpp",
        "pixels.image * view.stride[0] +\n                     channel * view.stride[1]",
        "int32_t(pixels.image * view.stride[0] + channel * view.stride[1])",
        SPREAD,
        ("conv_samples.cpp",),
    ),
    Patch(
        "32-bit index of an image row",
        "cpu/sample_kernels.inl",
        "run.y[p] * image.y_stride + run.x[p]",
        "int32_t(run.y[p] * image.y_stride) + run.x[p]",
        LARGE,
        KERNELS_OF_CPU,
    ),
    Patch(
        "32-bit index of a pixel at the border",
        "cpu/conv_samples.h",
        "const int64_t base = s.y * g.width + s.x;",
        "const int32_t base = int32_t(s.y * g.width + s.x);",
        LARGE,
        _SAMPLES,
    ),
    Patch(
        "32-bit index of a pixel in pooling",
        "cpu/roi_bins.h",
        "f(number++, y.index[i] * width_ + x.index[j], i, j);",
        "f(number++, int32_t(y.index[i] * width_ + x.index[j]), i, j);",
        LARGE_POOL,
        POOLS_OF_CPU,
    ),
    Patch(
        "32-bit index of an operand's elements",
        "cuda/conv_args.h",
        "return n * stride_n + c * stride_c + y * stride_y + x * stride_x;",
        "return int32_t(n * stride_n + c * stride_c + y * stride_y + x * stride_x);",
        SPREAD,
        cuda=("forward.cu",),
    ),
    Patch(
        "32-bit index of a pixel of the image",
        "cuda/sampled_value.cuh",
        "((n * g.height + s.y) * g.width + s.x) * g.in_channels + channel;",
        "int32_t(((n * g.height + s.y) * g.width + s.x) * g.in_channels + channel);",
        LARGE,
        cuda=("forward.cu",),
    ),
]
