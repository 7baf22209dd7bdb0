# SPDX-License-Identifier: BSD-3-Clause
"""The emulated kernels as operators that the correctness suite can judge."""

import os

import torch
from emulated import Emulated, pool

EMULATED = Emulated(os.environ["EMULATED"])
PATH = os.environ.get("EMULATED_PATH", "plain")


def pair(v):
    return (v, v) if isinstance(v, int) else tuple(v)


class Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, offset, weight, bias, mask, options):
        ctx.save_for_backward(x, offset, weight, bias, mask)
        ctx.options = options
        return EMULATED.conv(x, offset, weight, bias, mask, *options, PATH)

    @staticmethod
    def backward(ctx, grad):
        x, offset, weight, bias, mask = ctx.saved_tensors
        names = ("input", "offset", "weight", "bias", "mask")
        wanted = [n for n, need in zip(names, ctx.needs_input_grad) if need]
        got = EMULATED.conv(x, offset, weight, bias, mask, *ctx.options, PATH, grad=grad, wanted=wanted)
        return (*[got.get("grad_" + n) for n in names], None)


def deform_conv2d(input, offset, weight, bias=None, stride=1, padding=0, dilation=1, mask=None):
    if bias is not None:
        bias = bias.contiguous()
    return Conv.apply(input, offset, weight, bias, mask, (pair(stride), pair(padding), pair(dilation)))


def supports(problem):
    if problem.dtypes:
        return "no mixed dtypes"
    if problem.batch == 0:
        return "no empty batch"
    if problem.op != "deform_conv2d":
        return None
    work = problem.batch * problem.out_channels * problem.in_channels * problem.height * problem.width
    if work > 2e6:
        return "too large to emulate"
    if PATH == "plain":
        return None
    if problem.dtype == "float64" or (PATH == "wgmma" and problem.dtype == "float32"):
        return "another path"
    vector = 4 if problem.dtype == "float32" else 8
    shares = (problem.in_channels // problem.groups, problem.in_channels // problem.deform_groups,
              problem.out_channels // problem.groups)
    return "channels" if any(s % vector for s in shares) else None


class Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rois, offset, mask, options):
        ctx.save_for_backward(x, rois, offset, mask)
        ctx.options = options
        return pool(EMULATED.lib, x, rois, offset, mask, *options)

    @staticmethod
    def backward(ctx, grad):
        x, rois, offset, mask = ctx.saved_tensors
        names = ("input", "rois", "offset", "mask")
        wanted = [n for n, need in zip(names, ctx.needs_input_grad) if need and n != "rois"]
        got = pool(EMULATED.lib, x, rois, offset, mask, *ctx.options, grad=grad, wanted=wanted)
        return (*[got.get("grad_" + n) for n in names], None)


def table(rois):
    if isinstance(rois, torch.Tensor):
        return rois
    return torch.cat([torch.cat([b.new_full((len(b), 1), i), b], 1) for i, b in enumerate(rois)])


def deform_roi_pool(input, rois, offset, output_size, spatial_scale, sampling_ratio, gamma, mask=None):
    options = (pair(output_size), spatial_scale, gamma, sampling_ratio, 1, 1, 0)
    return Pool.apply(input, table(rois), offset, mask, options)


def deform_psroi_pool(input, rois, offset, output_size, spatial_scale, group_size, part_size, sample_per_part,
                      trans_std, mask=None):
    bins = pair(output_size)
    options = (bins, spatial_scale, trans_std, sample_per_part, group_size, pair(part_size)[0], 1)
    return Pool.apply(input, table(rois), offset, mask, options)
