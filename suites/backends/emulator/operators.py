# SPDX-License-Identifier: BSD-3-Clause
"""The emulated kernels as differentiable operators on CPU tensors, with dcnv2's signatures.

The emulated library registers csrc/cuda/dispatch under torch.ops.dcnv2_emulated, for the CPU: what
it checks, allocates and chooses is what the CUDA library does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcnv2.ops import checks
from dcnv2.ops.functional import join_boxes
from dcnv2.ops.schema import SCHEMAS
from suites.backends.emulator.build import NAMESPACE, build

PATHS = ("simt", "mma", "wgmma")


class EmulatedLibrary:
    """The emulated kernels of this process; torch loads one library of its operators.

    Attributes:
        path: a library that was built elsewhere; None to build it from the checkout.
    """

    path: Path | None = None

    @cached_property
    def functions(self) -> ctypes.CDLL:
        """The library's C functions; its operators are registered as well."""
        self._schemas = torch.library.Library(NAMESPACE, "DEF")  # as long as they are used
        for name, signature in SCHEMAS.items():
            self._schemas.define(name + signature)
        path = self.path or build()
        torch.ops.load_library(path)
        return ctypes.CDLL(str(path))

    def limit_conv_path(self, path: str) -> None:
        """Choose the fastest path of convolutions.

        Raises:
            ValueError: there is no such path.
        """
        if self.functions.dcnv2_set_fastest_path(path.encode()):
            raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path}")


EMULATED = EmulatedLibrary()


def _call(name: str, path: str, *arguments: Any) -> Any:
    """Call an operator with its convolutions on a path."""
    EMULATED.limit_conv_path(path)
    return getattr(getattr(torch.ops, NAMESPACE), name)(*arguments)


class _Operator(torch.autograd.Function):
    """An operator by its name and path; `names` are those of its tensors."""

    @staticmethod
    def forward(
        ctx: Any,
        name: str,
        path: str,
        names: Sequence[str],
        options: Sequence[Any],
        *tensors: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.call = name, path, names, options
        return _call(name, path, *tensors, *options)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        name, path, names, options = ctx.call
        needed = dict(zip(names, ctx.needs_input_grad[4:], strict=True))
        differentiable = [n for n in names if n != "rois"]
        needs = [needed[n] for n in differentiable]
        tensors = [t for n, t in zip(names, ctx.saved_tensors, strict=True) if n != "bias"]
        found = _call(name + "_backward", path, grad_output, *tensors, *options, needs)
        grads = dict(zip(differentiable, found, strict=True))
        return None, None, None, None, *(grads[n] if needed[n] else None for n in names)


def deform_conv2d(path: str, allow_tf32: bool = False) -> Callable[..., Tensor]:
    """The convolution by the kernels of a path: "simt", "mma" or "wgmma"."""

    def conv(input, offset, weight, bias=None, mask=None, stride=1, padding=0, dilation=1):
        pairs = {"stride": stride, "padding": padding, "dilation": dilation}
        options = [checks.pair(name, value) for name, value in pairs.items()] + [allow_tf32]
        names = ("input", "offset", "weight", "bias", "mask")
        tensors = (input, offset, weight, bias, mask)
        return _Operator.apply("deform_conv2d", path, names, options, *tensors)

    return conv


def _pool(name, input, rois, offset, mask, *options):
    names = ("input", "rois", "offset", "mask")
    return _Operator.apply(name, PATHS[-1], names, options, input, join_boxes(rois), offset, mask)


def deform_roi_pool(
    input, rois, offset=None, mask=None, output_size=7, spatial_scale=1.0, sampling_ratio=0,
    gamma=0.1,
):  # fmt: skip
    """As `dcnv2.ops.deform_roi_pool`."""
    options = (checks.pair("output_size", output_size), spatial_scale, sampling_ratio, gamma)
    return _pool("deform_roi_pool", input, rois, offset, mask, *options)


def deform_psroi_pool(
    input, rois, offset=None, mask=None, output_size=7, spatial_scale=1.0, group_size=1,
    part_size=None, sample_per_part=4, trans_std=0.1,
):  # fmt: skip
    """As `dcnv2.ops.deform_psroi_pool`."""
    size, _ = checks.pair("output_size", output_size)
    options = (size, spatial_scale, group_size, part_size or size, sample_per_part, trans_std)
    return _pool("deform_psroi_pool", input, rois, offset, mask, *options)


def batched_nms(boxes, scores, groups, iou_threshold, max_out):
    """As `dcnv2.ops.batched_nms`."""
    return _call("batched_nms", PATHS[-1], boxes, scores, groups, iou_threshold, max_out)


class _Multiscale(torch.autograd.Function):
    """multiscale_roi_align, whose maps are a list."""

    @staticmethod
    def forward(ctx: Any, options: Sequence[Any], rois: Tensor, levels: Tensor, *inputs: Tensor):
        ctx.save_for_backward(rois, levels, *inputs)
        ctx.options = options
        return _call("multiscale_roi_align", PATHS[-1], inputs, rois, levels, *options)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        rois, levels, *inputs = ctx.saved_tensors
        needs = ctx.needs_input_grad[3:]
        operands = (grad_output, inputs, rois, levels, *ctx.options, needs)
        grads = _call("multiscale_roi_align_backward", PATHS[-1], *operands)
        kept = (g if needed else None for g, needed in zip(grads, needs, strict=True))
        return None, None, None, *kept


def multiscale_roi_align(
    inputs, rois, spatial_scales, output_size=7, sampling_ratio=0, aligned=True, levels=None
):
    """As `dcnv2.ops.multiscale_roi_align`, with levels."""
    size = checks.pair("output_size", output_size)
    options = (size, list(spatial_scales), sampling_ratio, aligned)
    return _Multiscale.apply(options, join_boxes(rois), levels, *inputs)
