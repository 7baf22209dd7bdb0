# SPDX-License-Identifier: BSD-3-Clause
"""Operators as users write them: right ones, and one of each way to be no operator."""

import os

import numpy as np
import torch

import reference

NUMBER = 3


def right(input, offset, weight, bias, stride, padding, dilation, mask):
    """Differentiable, in every dtype, and right."""
    offset, mask = (None if t is None else t.to(input.dtype) for t in (offset, mask))
    return reference.deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


def swapped(input, offset, weight, bias, stride, padding, dilation, mask):
    """Reads x before y."""
    batch, points, *size = offset.shape
    offset = offset.view(batch, points // 2, 2, *size).flip(2).view(batch, points, *size)
    return right(input, offset, weight, bias, stride, padding, dilation, mask)


def without_groups(input, offset, weight, bias, stride, padding, dilation, mask):
    """Raises where there are groups, and does not declare it."""
    if input.shape[1] != weight.shape[1]:
        raise NotImplementedError("no groups here")
    return right(input, offset, weight, bias, stride, padding, dilation, mask)


def of_arrays(input, offset, weight, bias, stride, padding, dilation, mask):
    """Takes and returns NumPy arrays; pairs only."""
    assert isinstance(input, np.ndarray)
    pairs = [(pair[0], pair[1]) for pair in (stride, padding, dilation)]
    given = [None if t is None else torch.from_numpy(t) for t in (input, offset, weight, bias)]
    mask = None if mask is None else torch.from_numpy(mask)
    return right(*given, *pairs, mask).numpy()


def detached(input, offset, weight, bias, stride, padding, dilation, mask):
    """Returns a tensor without a graph."""
    with torch.no_grad():
        return right(input, offset, weight, bias, stride, padding, dilation, mask)


def float_only(input, offset, weight, bias, stride, padding, dilation, mask):
    """Raises in other dtypes than float32."""
    if {t.dtype for t in (input, offset)} != {torch.float32}:
        raise RuntimeError("not implemented for this dtype")
    return right(input, offset, weight, bias, stride, padding, dilation, mask)


def of_another_shape(input, offset, weight, bias, stride, padding, dilation, mask):
    """Returns its input."""
    return input


def of_nothing(input, offset, weight, bias, stride, padding, dilation, mask):
    """Returns None."""


def raising(input, offset, weight, bias, stride, padding, dilation, mask):
    """Raises whatever it gets."""
    raise KeyError("columns")


def dying(input, offset, weight, bias, stride, padding, dilation, mask):
    """Ends its process."""
    os._exit(3)


def of_two(input, weight):
    """Too few arguments."""
    return input


class Layer(torch.nn.Module):
    """No function."""


def right_pool(input, rois, offset, output_size, spatial_scale, sampling_ratio, gamma):
    """The centred RoI pooling."""
    options = (output_size, spatial_scale, sampling_ratio, gamma)
    return reference.deform_roi_pool(input, rois, offset, None, *options)


def swapped_pool(input, rois, offset, *options):
    """Reads y before x."""
    return right_pool(input, rois, None if offset is None else offset.flip(1), *options)


def right_psroi_pool(
    input,
    rois,
    offset,
    output_size,
    spatial_scale,
    group_size,
    part_size,
    sample_per_part,
    trans_std,
):
    """The position-sensitive RoI pooling."""
    options = (output_size, spatial_scale, group_size, part_size, sample_per_part, trans_std)
    return reference.deform_psroi_pool(input, rois, offset, None, *options)


def swapped_psroi_pool(input, rois, offset, *options):
    """Reads y before x."""
    return right_psroi_pool(input, rois, None if offset is None else offset.flip(1), *options)
