# SPDX-License-Identifier: BSD-3-Clause
"""The operators again, as loops in NumPy for tiny shapes, to check the reference.

The formulation is another one on purpose: no floor, no corners, but the sum over *all* pixels q of
the map, weighted by the kernel G(q, p) = max(0, 1-|q_y-p_y|) · max(0, 1-|q_x-p_x|) of Deformable
ConvNets (arXiv 1703.06211), equation 4. Forward alone; one-sided difference quotients of it give
the derivatives.
"""

from math import ceil, copysign, floor, isnan, nan

import numpy as np


def _sum_over_pixels(image: np.ndarray, y: float, x: float) -> float:
    """x(p) = Σ_q G(q, p) x(q); equation 3 there."""
    if isnan(y) or isnan(x):
        return nan
    total = 0.0
    for q_y in range(image.shape[0]):
        for q_x in range(image.shape[1]):
            total += max(0.0, 1 - abs(q_y - y)) * max(0.0, 1 - abs(q_x - x)) * image[q_y, q_x]
    return total


def deform_conv2d(
    input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), mask=None
):
    """Arrays shaped as the tensors of `reference.deform_conv2d`; pairs are (y, x)."""
    batch, channels, height, width = input.shape
    out_channels, group_in, kernel_h, kernel_w = weight.shape
    taps = kernel_h * kernel_w
    deform_groups = offset.shape[1] // (2 * taps)
    out_h = (height + 2 * padding[0] - dilation[0] * (kernel_h - 1) - 1) // stride[0] + 1
    out_w = (width + 2 * padding[1] - dilation[1] * (kernel_w - 1) - 1) // stride[1] + 1
    group_out = out_channels // (channels // group_in)
    out = np.zeros((batch, out_channels, out_h, out_w))
    for n, o, i, j in np.ndindex(*out.shape):
        for c, a, b in np.ndindex(group_in, kernel_h, kernel_w):
            channel = (o // group_out) * group_in + c
            slot = channel // (channels // deform_groups) * taps + a * kernel_w + b
            y = i * stride[0] - padding[0] + a * dilation[0] + offset[n, 2 * slot, i, j]
            x = j * stride[1] - padding[1] + b * dilation[1] + offset[n, 2 * slot + 1, i, j]
            modulation = 1.0 if mask is None else mask[n, slot, i, j]
            value = _sum_over_pixels(input[n, channel], y, x)
            out[n, o, i, j] += weight[o, c, a, b] * value * modulation
        if bias is not None:
            out[n, o, i, j] += bias[o]
    return out


def _clamped(value: float, size: int) -> float:
    return value if isnan(value) else min(max(value, 0.0), size - 1.0)


def deform_roi_pool(
    input,
    rois,
    offset=None,
    mask=None,
    output_size=(7, 7),
    spatial_scale=1.0,
    sampling_ratio=0,
    gamma=0.1,
):
    """Arrays shaped as the tensors of `reference.deform_roi_pool`; rois [R, 5]."""
    channels, height, width = input.shape[1:]
    out = np.zeros((len(rois), channels, *output_size))
    for r, c, i, j in np.ndindex(*out.shape):
        batch = int(rois[r, 0])
        x1, y1, x2, y2 = (edge * spatial_scale - 0.5 for edge in rois[r, 1:])
        bin_h, bin_w = (y2 - y1) / output_size[0], (x2 - x1) / output_size[1]
        rows = sampling_ratio or ceil(bin_h)
        cols = sampling_ratio or ceil(bin_w)
        for a in range(rows):
            for b in range(cols):
                y = y1 + (i + (a + 0.5) / rows) * bin_h
                x = x1 + (j + (b + 0.5) / cols) * bin_w
                if offset is not None:
                    x += gamma * (x2 - x1) * offset[r, 0, i, j]
                    y += gamma * (y2 - y1) * offset[r, 1, i, j]
                number = not (isnan(y) or isnan(x))
                if number and (y < -1 or y > height or x < -1 or x > width):
                    continue
                y, x = _clamped(y, height), _clamped(x, width)
                out[r, c, i, j] += _sum_over_pixels(input[batch, c], y, x) / (rows * cols)
        if mask is not None:
            out[r, c, i, j] *= mask[r, 0, i, j]
    return out


def _round(value: float) -> float:
    return copysign(floor(abs(value) + 0.5), value)


def deform_psroi_pool(
    input,
    rois,
    offset=None,
    mask=None,
    output_size=7,
    spatial_scale=1.0,
    group_size=1,
    part_size=None,
    sample_per_part=4,
    trans_std=0.1,
):
    """Arrays shaped as the tensors of `reference.deform_psroi_pool`; rois [R, 5]."""
    channels, height, width = input.shape[1:]
    bins, parts = output_size, part_size or output_size
    out_channels = channels // group_size**2
    class_channels = out_channels if offset is None else out_channels * 2 // offset.shape[1]
    out = np.zeros((len(rois), out_channels, bins, bins))
    for r, c, i, j in np.ndindex(*out.shape):
        batch = int(rois[r, 0])
        x0 = _round(rois[r, 1]) * spatial_scale - 0.5
        y0 = _round(rois[r, 2]) * spatial_scale - 0.5
        roi_w = max((_round(rois[r, 3]) + 1) * spatial_scale - 0.5 - x0, 0.1)
        roi_h = max((_round(rois[r, 4]) + 1) * spatial_scale - 0.5 - y0, 0.1)
        shift_x = shift_y = 0.0
        if offset is not None:
            kind = c // class_channels
            part = (i * parts // bins, j * parts // bins)
            shift_x = offset[(r, 2 * kind, *part)] * trans_std * roi_w
            shift_y = offset[(r, 2 * kind + 1, *part)] * trans_std * roi_h
        group = (i * group_size // bins, j * group_size // bins)
        channel = (c * group_size + group[0]) * group_size + group[1]
        total, count = 0.0, 0
        for a in range(sample_per_part):
            for b in range(sample_per_part):
                y = y0 + (i + a / sample_per_part) * roi_h / bins + shift_y
                x = x0 + (j + b / sample_per_part) * roi_w / bins + shift_x
                number = not (isnan(y) or isnan(x))
                if number and (y < -0.5 or y > height - 0.5 or x < -0.5 or x > width - 0.5):
                    continue
                y, x = _clamped(y, height), _clamped(x, width)
                total += _sum_over_pixels(input[batch, channel], y, x)
                count += 1
        out[r, c, i, j] = total / count if count else 0.0
        if mask is not None:
            out[r, c, i, j] *= mask[r, 0, i, j]
    return out
