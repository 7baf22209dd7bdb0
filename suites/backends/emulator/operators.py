# SPDX-License-Identifier: BSD-3-Clause
"""The emulated kernels as differentiable operators on CPU tensors, with dcnv2's signatures."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from suites.backends.emulator.build import build

PATHS = ("simt", "mma", "wgmma")
_DTYPES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
_IN = ["input", "offset", "mask"]
_GRADS = ["grad_input", "grad_offset", "grad_mask"]
_CONV = [*_IN, "weight", "bias", "output", "grad_output", *_GRADS, "grad_weight", "grad_bias"]
_POOL = ["input", "boxes", "offset", "mask", "output", "grad_output", *_GRADS]
_POOL_SIZES = ["rois", "batch", "channels", "height", "width", "out_channels"]
_POOL_SIZES += ["pooled_h", "pooled_w"]
_POOL_OPTIONS = ["sampling", "group_size", "part_size", "classes", "psroi"]
_IMAGES = ("input", "output", "grad_output", "grad_input")  # whose channels lie last


class _Operand(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int64),
        ("stride", ctypes.c_int64 * 4),
    )


class _ConvCall(ctypes.Structure):
    _fields_ = (
        ("geometry", ctypes.c_int64 * 17),
        ("path", ctypes.c_int64),
        ("allow_tf32", ctypes.c_int64),
        *((name, _Operand) for name in _CONV),
    )


class _PoolCall(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in _POOL_SIZES),
        ("spatial_scale", ctypes.c_double),
        ("offset_scale", ctypes.c_double),
        *((name, ctypes.c_int64) for name in _POOL_OPTIONS),
        *((name, _Operand) for name in _POOL),
    )


_built: list[Path] = []  # aside, instead of the sources' own


def use(library: Path) -> None:
    """Take the kernels from a library that was built aside."""
    _built[:] = [library]


@lru_cache
def library() -> ctypes.CDLL:
    """The emulated kernels, built if need be."""
    return ctypes.CDLL(str(_built[0] if _built else build()))


def _call(name: str, call: ctypes.Structure, tensors: dict[str, Tensor | None]) -> None:
    for field, tensor in tensors.items():
        if tensor is None:
            continue
        operand = getattr(call, field)
        operand.data, operand.dtype = tensor.data_ptr(), _DTYPES[tensor.dtype]
        operand.stride[: tensor.dim()] = tensor.stride()
    status = getattr(library(), name)(ctypes.byref(call))
    if status:
        raise RuntimeError(f"{name} failed; its error is above")


def _channels_last(images: Tensor) -> Tensor:
    """As the operators hand images to the kernels: channels last, chunks aligned."""
    packed = images.permute(0, 2, 3, 1).contiguous()
    packed = packed.clone() if packed.data_ptr() % 16 else packed
    return packed.permute(0, 3, 1, 2)


def _poisoned(like: Tensor, shape: Iterable[int], channels_last: bool) -> Tensor:
    made = torch.full(tuple(shape), torch.nan, dtype=like.dtype)
    return _channels_last(made) if channels_last else made


def _results(tensors: dict[str, Tensor | None], wanted: Iterable[str]) -> dict[str, Tensor]:
    return {
        f"grad_{name}": _poisoned(tensors[name], tensors[name].shape, name in _IMAGES)
        for name in wanted
        if tensors[name] is not None
    }


class _Operator(torch.autograd.Function):
    """run(tensors, wanted, grad_output): the output, or the wanted gradients."""

    @staticmethod
    def forward(ctx, run: Callable, names: tuple[str, ...], *tensors: Tensor | None) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.run, ctx.names = run, names
        return run(dict(zip(names, tensors, strict=True)), (), None)

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        needed = zip(ctx.names, ctx.needs_input_grad[2:], strict=True)
        wanted = [name for name, needs in needed if needs and name != "boxes"]
        tensors = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        got = ctx.run(tensors, wanted, grad_output)
        return None, None, *(got.get(f"grad_{name}") for name in ctx.names)


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def deform_conv2d(path: str, allow_tf32: bool = False) -> Callable:
    """The convolution by the kernels of a path, "simt", "mma" or "wgmma"; non-empty operands."""

    def conv(input, offset, weight, bias=None, mask=None, stride=1, padding=0, dilation=1):
        options = [_pair(option) for option in (stride, padding, dilation)]
        (n, c, h, w), (o, group_in, kh, kw) = input.shape, weight.shape
        ho, wo = offset.shape[2:]
        groups = (c // group_in, offset.shape[1] // (2 * kh * kw))
        (sh, sw), (ph, pw), (dh, dw) = options
        geometry = (n, c, h, w, o, ho, wo, kh, kw, sh, sw, ph, pw, dh, dw, *groups)

        def run(tensors, wanted, grad_output):
            call = _ConvCall(geometry, PATHS.index(path), allow_tf32)
            given = {**tensors, "input": _channels_last(tensors["input"])}
            if grad_output is None:
                output = _poisoned(given["input"], (n, o, ho, wo), True)
                _call("emulated_conv", call, {**given, "output": output})
                return output
            given["grad_output"] = _channels_last(grad_output)
            results = _results(tensors, wanted)
            _call("emulated_conv_backward", call, {**given, **results})
            return results

        names = ("input", "offset", "weight", "bias", "mask")
        return _Operator.apply(run, names, input, offset, weight, bias, mask)

    return conv


def _pool(input, rois, offset, mask, bins, scales, sampling, group_size, part_size, psroi):
    n, c, h, w = input.shape
    boxes = _table(rois)
    classes = offset.shape[1] // 2 if psroi and offset is not None else 1
    out_channels = c // group_size**2
    sizes = (len(boxes), n, c, h, w, out_channels, *bins)

    def run(tensors, wanted, grad_output):
        call = _PoolCall(*sizes, *scales, sampling, group_size, part_size, classes, psroi)
        given = {**tensors, "input": _channels_last(tensors["input"])}
        if grad_output is None:
            output = _poisoned(given["input"], (len(boxes), out_channels, *bins), True)
            _call("emulated_pool", call, {**given, "output": output})
            return output
        given["grad_output"] = _channels_last(grad_output)
        results = _results(tensors, wanted)
        _call("emulated_pool_backward", call, {**given, **results})
        return results

    return _Operator.apply(run, ("input", "boxes", "offset", "mask"), input, boxes, offset, mask)


def _table(rois) -> Tensor:
    if isinstance(rois, Tensor):
        return rois
    return torch.cat([torch.cat([b.new_full((len(b), 1), i), b], 1) for i, b in enumerate(rois)])


def deform_roi_pool(
    input, rois, offset=None, mask=None, output_size=7, spatial_scale=1.0, sampling_ratio=0,
    gamma=0.1,
):  # fmt: skip
    """As `dcnv2.ops.deform_roi_pool`; non-empty operands."""
    bins, scales = _pair(output_size), (spatial_scale, gamma)
    return _pool(input, rois, offset, mask, bins, scales, sampling_ratio, 1, 1, False)


def deform_psroi_pool(
    input, rois, offset=None, mask=None, output_size=7, spatial_scale=1.0, group_size=1,
    part_size=None, sample_per_part=4, trans_std=0.1,
):  # fmt: skip
    """As `dcnv2.ops.deform_psroi_pool`; non-empty operands."""
    bins, scales = _pair(output_size), (spatial_scale, trans_std)
    part_size = part_size or bins[0]
    return _pool(
        input, rois, offset, mask, bins, scales, sample_per_part, group_size, part_size, True
    )
