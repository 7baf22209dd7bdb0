# SPDX-License-Identifier: BSD-3-Clause
"""Implementations that a suite can judge: ours, peers', and anybody's.

A backend says which problems it supports, and gives a function with our names for each operator:

    deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation)
    deform_roi_pool, deform_psroi_pool: as in dcnv2.ops

`get_backend` knows `dcnv2`, `portable`, `torchvision`, `mmcv`, and `module.path:function`, a
convolution of yours, in one of the calling conventions of `CONVENTIONS`: the one whose argument
names fit its signature, or the one named, as in `module.path:function@mmcv`. If the module has a
function `supports(problem)`, that says what is supported: None, or the reason why not.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from suites.evaluation import Results, run
from suites.problems import ConvProblem, Problem


class Backend(Protocol):
    """What the suites ask of an implementation."""

    name: str
    ours: bool  # whether it is held to this library's own promises too

    def supports(self, problem: Problem, device: str) -> str | None:
        """None, or why a problem is outside what the implementation offers."""

    def operator(self, op: str) -> Callable[..., Tensor]:
        """The function of an operator, `deform_conv2d` say, with our argument names."""


@dataclass(frozen=True)
class Target:
    """A backend on a device."""

    backend: Backend
    device: str

    @property
    def name(self) -> str:
        """Such as dcnv2-cpu."""
        return f"{self.backend.name}-{self.device}"

    def supports(self, problem: Problem) -> str | None:
        """None, or why not."""
        return self.backend.supports(problem, self.device)

    def run(self, problem: Problem, wanted: Iterable[str] | None = None) -> Results:
        """Result and gradients on the problem's own tensors."""
        return run(self.backend.operator(problem.op), problem, self.device, wanted)


# ---- calling conventions


def _torchvision_call(function: Callable) -> Callable[..., Tensor]:
    def conv(input, offset, weight, bias, mask, stride, padding, dilation):
        return function(input, offset, weight, bias, stride, padding, dilation, mask)

    return conv


def _unit_mask(offset: Tensor) -> Tensor:
    return offset.new_ones(offset.shape[0], offset.shape[1] // 2, *offset.shape[2:])


def _deform_groups(offset: Tensor, weight: Tensor) -> int:
    return offset.shape[1] // (2 * weight.shape[2] * weight.shape[3])


def _mmcv_call(function: Callable) -> Callable[..., Tensor]:
    """mmcv and BasicSR; positional, as most are `Function.apply`. No mask means a unit mask."""

    def conv(input, offset, weight, bias, mask, stride, padding, dilation):
        mask = _unit_mask(offset) if mask is None else mask
        groups = input.shape[1] // weight.shape[1]
        shared = (stride, padding, dilation, groups, _deform_groups(offset, weight))
        return function(input, offset, mask, weight, bias, *shared)

    return conv


def _charlesshang_call(function: Callable) -> Callable[..., Tensor]:
    """CharlesShang's dcn_v2_conv and its forks: no groups, always a bias and a mask."""

    def conv(input, offset, weight, bias, mask, stride, padding, dilation):
        mask = _unit_mask(offset) if mask is None else mask
        bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
        shared = (stride, padding, dilation, _deform_groups(offset, weight))
        return function(input, offset, mask, weight, bias, *shared)

    return conv


CONVENTIONS: dict[str, Callable[[Callable], Callable[..., Tensor]]] = {
    "torchvision": _torchvision_call,
    "mmcv": _mmcv_call,
    "charlesshang": _charlesshang_call,
}


def convention_of(function: Callable) -> str:
    """The convention whose order of operands a signature has; torchvision's if it says nothing."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return "torchvision"
    if len(names) < 3 or names[2] != "mask":
        return "torchvision"
    return "mmcv" if "groups" in names else "charlesshang"


# ---- backends


class Dcnv2:
    """This library's operators, on whatever path they take on the device."""

    name = "dcnv2"
    ours = True

    def supports(self, problem: Problem, device: str) -> str | None:
        return None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from dcnv2 import ops

        return getattr(ops, op)


class Portable:
    """This library's portable path: what runs where nothing was compiled, gradients included."""

    name = "portable"
    ours = True

    def supports(self, problem: Problem, device: str) -> str | None:
        return None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from suites.portable_path import operator

        return operator(op)


class Torchvision:
    """torchvision.ops.deform_conv2d."""

    name = "torchvision"
    ours = False

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op != "deform_conv2d":
            return f"no {problem.op}"
        if problem.dtype == "bfloat16":
            return "no bfloat16"
        if problem.dtype == "float16" and device == "cpu":
            return "no float16 on the CPU"
        return "no mixed dtypes" if problem.dtypes else None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from torchvision.ops import deform_conv2d

        return _torchvision_call(deform_conv2d)


class Mmcv:
    """mmcv.ops: modulated_deform_conv2d and deform_roi_pool."""

    name = "mmcv"
    ours = False

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op == "deform_psroi_pool":
            return "no deform_psroi_pool"
        if problem.op == "deform_roi_pool" and problem.mask:
            return "no mask in deform_roi_pool"
        if problem.dtype == "bfloat16":
            return "no bfloat16"
        if problem.dtype == "float16" and device == "cpu":
            return "no float16 on the CPU"
        return "no mixed dtypes" if problem.dtypes else None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from mmcv import ops

        if op == "deform_conv2d":
            return _mmcv_call(ops.modulated_deform_conv2d)

        def pool(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma):
            shared = (output_size, spatial_scale, sampling_ratio, gamma)
            return ops.deform_roi_pool(input, rois, offset, *shared)

        return pool


class UserConv:
    """A convolution given as `module.path:function`, with `@convention` if it cannot be told."""

    ours = False

    def __init__(self, spec: str):
        place, _, convention = spec.partition("@")
        module_name, _, function_name = place.partition(":")
        module = importlib.import_module(module_name)
        self.name = spec
        self._function = getattr(module, function_name)
        self._convention = convention or convention_of(self._function)
        if self._convention not in CONVENTIONS:
            known = ", ".join(CONVENTIONS)
            raise ValueError(f"convention of {spec} must be one of {known}, got {convention}")
        self._declared = getattr(module, "supports", None)

    def supports(self, problem: Problem, device: str) -> str | None:
        if not isinstance(problem, ConvProblem):
            return f"no {problem.op}"
        if self._convention == "charlesshang" and problem.groups > 1:
            return "no groups"
        return self._declared(problem) if self._declared else None

    def operator(self, op: str) -> Callable[..., Tensor]:
        return CONVENTIONS[self._convention](self._function)


BACKENDS = {cls.name: cls for cls in (Dcnv2, Portable, Torchvision, Mmcv)}


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        ValueError: if there is none, or what it needs is not installed.
    """
    if ":" in name:
        return UserConv(name)
    if name not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise ValueError(f"backend must be one of {known} or module.path:function, got {name}")
    if name in ("torchvision", "mmcv") and importlib.util.find_spec(name) is None:
        raise ValueError(f"backend {name} is not installed")
    return BACKENDS[name]()


def devices() -> list[str]:
    """The devices that this machine can judge on."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
