# SPDX-License-Identifier: BSD-3-Clause
"""Implementations that a suite can judge: ours, peers', and anybody's.

A backend says which problems it supports, and gives a function with our names for each operator:

    deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation)
    deform_roi_pool, deform_psroi_pool: as in dcnv2.ops

`get_backend` knows `dcnv2`, its kernels on CUDA by name (`dcnv2-simt`, `dcnv2-mma`,
`dcnv2-wgmma`), those same kernels without a GPU (`emulated-simt`, `emulated-mma`,
`emulated-wgmma`), `portable`, `torchvision`, `mmcv`, and `module.path:function`, an operator of
yours, in one of the conventions of `suites.backends.calling_conventions`: the one
whose argument names fit its signature, or the one named, as in `module.path:function@mmcv`. If the
module has a function `supports(problem)`, that says what is supported: None, or the reason why not.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from suites.backends.calling_conventions import CONVENTIONS, convention_of
from suites.problems.evaluate import Results, run
from suites.problems.problem import DTYPES, ConvProblem, Problem, RoIProblem


class Backend(Protocol):
    """What the suites ask of an implementation."""

    name: str
    ours: bool  # whether it is held to this library's own promises too
    # Optional: `version`, of its package; `called_as`, a convolution's "module:function@convention"
    # for reports/verdicts/run.py; `safe`, that it never crashes (default: `ours`); `in_place`,
    # that it never copies an image whole; `unsupported_args`, those of mask, bias and groups that
    # it does not take; `dtypes`, the only ones to generate where a claim leaves the choice;
    # `adapt(problem)`, a similar problem that it supports.

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

    def adapt(self, problem: Problem) -> Problem:
        """The problem itself, or what the backend makes of it so that it supports it."""
        adapt = getattr(self.backend, "adapt", None)
        return adapt(problem) if adapt else problem

    def adapt_fixed(self, problem: ConvProblem) -> ConvProblem:
        """As `adapt`, of a claim's own problem, without what the backend has no argument for."""
        least = {"mask": False, "bias": False, "groups": 1}
        unsupported_args = getattr(self.backend, "unsupported_args", ())
        if problem.op == "deform_conv2d":
            problem = problem.but(**{name: least[name] for name in unsupported_args})
        return self.adapt(problem)

    def run(self, problem: Problem, wanted: Iterable[str] | None = None) -> Results:
        """Result and gradients on the problem's own tensors."""
        return run(self.backend.operator(problem.op), problem, self.device, wanted)


class Dcnv2:
    """This library's operators, on whatever path they take on the device."""

    name = "dcnv2"
    ours = in_place = True
    _limited = False  # whether any path was asked for by name in this process

    def supports(self, problem: Problem, device: str) -> str | None:
        return None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from dcnv2 import ops

        if Dcnv2._limited:
            ops.library.limit_conv_path(_PATHS[-1])
        return getattr(ops, op)


_PATHS = ("simt", "mma", "wgmma")  # the last is no limit


class _Path:
    """What a path of CUDA takes, and the problems that suit it."""

    def __init__(self, path: str):
        self._path, self.dtypes = path, DTYPES if path == "simt" else DTYPES[1:]  # no float64

    def adapt(self, problem: Problem) -> Problem:
        """With channels in whole vectors."""
        if problem.op != "deform_conv2d" or not self._odd_channels(problem):
            return problem
        share = _vector(problem) * math.lcm(problem.groups, problem.deform_groups)
        outs = _vector(problem) * problem.groups
        return problem.but(
            in_channels=share * math.ceil(problem.in_channels / share),
            out_channels=outs * math.ceil(problem.out_channels / outs),
        )

    def _odd_channels(self, problem: ConvProblem) -> str | None:
        """Why the path does not take a problem of a dtype that it takes."""
        if self._path == "simt":
            return None
        vector = _vector(problem)
        shares = (
            problem.in_channels // problem.groups,
            problem.in_channels // problem.deform_groups,
            problem.out_channels // problem.groups,
        )
        odd = any(share % vector for share in shares)
        return f"channels of a group that are no multiple of {vector}" if odd else None


def _vector(problem: ConvProblem) -> int:
    """Channels that the tensor-core kernels take at a time."""
    return 4 if problem.dtype == "float32" else 8


class Dcnv2Path(_Path, Dcnv2):
    """The convolution on CUDA by kernels asked for by name, where they take the problem at all."""

    def __init__(self, path: str):
        super().__init__(path)
        self.name = f"dcnv2-{path}"

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op != "deform_conv2d":
            return f"no {problem.op}"
        if device != "cuda":
            return "a path of CUDA"
        return None if self._path == "simt" else self._refusal(problem)

    def _refusal(self, problem: ConvProblem) -> str | None:
        from dcnv2.ops.library import conv_path

        self._limit()
        taken, _ = conv_path(problem.dtype, torch.cuda.get_device_capability())
        if taken.split()[0] != self._path:
            return f"{problem.dtype} takes the path {taken}"
        return self._odd_channels(problem)

    def operator(self, op: str) -> Callable[..., Tensor]:
        from dcnv2 import ops

        self._limit()  # the backward comes later, and keeps to it
        return getattr(ops, op)

    def _limit(self) -> None:
        from dcnv2.ops.library import limit_conv_path

        limit_conv_path(self._path)
        Dcnv2._limited = True


class Emulated(_Path):
    """The kernels of CUDA on the CPU: a path's convolution, and the poolings."""

    ours = in_place = True

    def __init__(self, path: str):
        super().__init__(path)
        self.name = f"emulated-{path}"

    def supports(self, problem: Problem, device: str) -> str | None:
        if device != "cpu":
            return "emulated on the CPU"
        if isinstance(problem, RoIProblem):
            return None
        if problem.dtype not in self.dtypes:
            return f"no {problem.dtype}"
        return self._odd_channels(problem)

    def operator(self, op: str) -> Callable[..., Tensor]:
        from suites.backends.emulator import operators

        if op == "deform_conv2d":
            return operators.deform_conv2d(self._path)
        return getattr(operators, op)


def use_library(path: str) -> None:
    """Let dcnv2 be a compiled library built aside, and load none of the checkout's."""
    os.environ["DCNV2_BACKEND"] = "portable"
    from dcnv2.ops import library

    torch.ops.load_library(path)  # registers kernels of the operators
    info = library.build_info(Path(path))
    found = library.Library(info["library"], Path(path), loaded=True, info=info)
    library.LIBRARIES[found.device] = found  # whose paths can be asked for


class Portable:
    """This library's portable path: what runs where nothing was compiled, gradients included."""

    name = "portable"
    ours = True

    def supports(self, problem: Problem, device: str) -> str | None:
        return None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from suites.backends.portable import operator

        return operator(op)


class Torchvision:
    """torchvision.ops.deform_conv2d."""

    name = "torchvision"
    ours = False
    version = property(lambda self: importlib.import_module("torchvision").__version__)
    called_as = "torchvision.ops:deform_conv2d@torchvision"

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

        return CONVENTIONS["torchvision"].adapt(deform_conv2d)


class Mmcv:
    """mmcv.ops: modulated_deform_conv2d and, on a GPU, deform_roi_pool.

    It reads most operands as if they were contiguous. That is what claims on layouts tell; all
    others are judged on contiguous operands, for what they say themselves.
    """

    name = "mmcv"
    ours = False
    version = property(lambda self: importlib.import_module("mmcv").__version__)
    called_as = "mmcv.ops:modulated_deform_conv2d@mmcv"

    def adapt(self, problem: Problem) -> Problem:
        """With contiguous operands."""
        return problem.but(layouts=())

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op == "deform_psroi_pool":
            return "no deform_psroi_pool"
        if problem.op == "deform_roi_pool" and problem.mask:
            return "no mask in deform_roi_pool"
        if problem.op == "deform_roi_pool" and device == "cpu":
            return "no deform_roi_pool on the CPU"
        if problem.op == "deform_conv2d" and problem.batch == 0:
            return "no empty batch"
        if problem.dtype == "bfloat16":
            return "no bfloat16"
        return "no mixed dtypes" if problem.dtypes else None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from mmcv import ops

        if op == "deform_conv2d":
            return CONVENTIONS["mmcv"].adapt(ops.modulated_deform_conv2d)
        return CONVENTIONS["roi_pool"].adapt(ops.deform_roi_pool)


class User:
    """An operator `module.path:function`, or `module.path:function@convention`."""

    ours = False

    def __init__(self, spec: str):
        place, _, convention = spec.partition("@")
        module_name, _, function_name = place.partition(":")
        module = importlib.import_module(module_name)
        self.name = spec
        self._function = attrgetter(function_name)(module)
        convention = convention or convention_of(self._function)
        if convention not in CONVENTIONS:
            known = ", ".join(CONVENTIONS)
            raise ValueError(f"convention of {spec} must be one of {known}, got {convention}")
        self.convention = CONVENTIONS[convention]
        self.unsupported_args = self.convention.unsupported_args
        if self.convention.op == "deform_conv2d":
            self.called_as = f"{place}@{convention}"
        self._declared = getattr(module, "supports", None)

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op != self.convention.op:
            return f"no {problem.op}"
        if "groups" in self.unsupported_args and problem.groups > 1:
            return "no groups"
        if "mask" in self.unsupported_args and problem.mask:
            return "no mask"
        if "bias" in self.unsupported_args and problem.bias:
            return "no bias"
        return self._declared(problem) if self._declared else None

    def operator(self, op: str) -> Callable[..., Tensor]:
        return self.convention.adapt(self._function)


BACKENDS = {cls.name: cls for cls in (Dcnv2, Portable, Torchvision, Mmcv)}
PATHS = {f"dcnv2-{path}": path for path in _PATHS}
EMULATED = {f"emulated-{path}": path for path in _PATHS}


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        ValueError: if there is none, or what it needs is not installed.
    """
    if ":" in name:
        return User(name)
    if name in PATHS:
        return Dcnv2Path(PATHS[name])
    if name in EMULATED:
        return Emulated(EMULATED[name])
    if name not in BACKENDS:
        known = ", ".join((*BACKENDS, *PATHS, *EMULATED))
        raise ValueError(f"backend must be one of {known} or module.path:function, got {name}")
    if name in ("torchvision", "mmcv") and importlib.util.find_spec(name) is None:
        raise ValueError(f"backend {name} is not installed")
    return BACKENDS[name]()


def devices() -> list[str]:
    """The devices that this machine can judge on."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
