# SPDX-License-Identifier: BSD-3-Clause
"""This library as backends: as users call it, by path, emulated, and the portable path."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from suites.problems.problem import DTYPES, ConvProblem, Problem

CONV_PATHS = ("simt", "mma", "wgmma")  # slowest first, so the last is no limit


class Dcnv2:
    """This library's operators; the library chooses the path."""

    name = "dcnv2"
    ours = in_place = True

    def supports(self, problem: Problem, device: str) -> str | None:
        return None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from dcnv2 import ops

        cuda = ops.library.LIBRARIES.get("cuda")
        # An earlier backend may have limited it; in a traced function the call cannot be compiled.
        if cuda and cuda.loaded and not torch.compiler.is_compiling():
            ops.library.limit_conv_path(CONV_PATHS[-1])
        return getattr(ops, op)


class _Path:
    """The problems that a path of CUDA supports, and how others are adapted to it."""

    def __init__(self, path: str):
        self._path, self.dtypes = path, DTYPES if path == "simt" else DTYPES[1:]  # no float64

    def adapt(self, problem: Problem) -> Problem:
        """Round channels up to multiples of what the path takes at a time."""
        if problem.op != "deform_conv2d" or not self._odd_channels(problem):
            return problem
        share = _vector(problem) * math.lcm(problem.groups, problem.deform_groups)
        outs = _vector(problem) * problem.groups
        return problem.but(
            in_channels=share * math.ceil(problem.in_channels / share),
            out_channels=outs * math.ceil(problem.out_channels / outs),
        )

    def _odd_channels(self, problem: ConvProblem) -> str | None:
        """Why the path does not support the channels of a problem, if it does not."""
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
    """The convolution on CUDA by the kernels of one path."""

    def __init__(self, path: str):
        super().__init__(path)
        self.name = f"dcnv2-{path}"

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op != "deform_conv2d":
            return f"no {problem.op}"
        if device != "cuda":
            return "a path of CUDA"
        return None if self._path == "simt" else self._unsupported_reason(problem)

    def _unsupported_reason(self, problem: ConvProblem) -> str | None:
        from dcnv2.ops.library import conv_path

        self._limit()
        taken, _ = conv_path(problem.dtype, torch.cuda.get_device_capability())
        if taken.split()[0] != self._path:
            return f"{problem.dtype} takes the path {taken}"
        return self._odd_channels(problem)

    def operator(self, op: str) -> Callable[..., Tensor]:
        from dcnv2 import ops

        self._limit()  # of the backward too, which runs later
        return getattr(ops, op)

    def _limit(self) -> None:
        from dcnv2.ops.library import limit_conv_path

        limit_conv_path(self._path)


class Emulated(_Path):
    """The CUDA kernels emulated on the CPU: one path's convolution, and all other operators."""

    ours = in_place = True

    def __init__(self, path: str):
        super().__init__(path)
        self.name = f"emulated-{path}"

    def supports(self, problem: Problem, device: str) -> str | None:
        if device != "cpu":
            return "emulated on the CPU"
        if problem.op != "deform_conv2d":
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
    """Make dcnv2 use only this compiled library, and none of the checkout's."""
    os.environ["DCNV2_BACKEND"] = "portable"
    from dcnv2.ops import library

    torch.ops.load_library(path)  # registers kernels of the operators
    info = library.build_info(Path(path))
    found = library.Library(info["library"], Path(path), loaded=True, info=info)
    library.LIBRARIES[found.device] = found  # so that its paths can be queried


class Portable:
    """This library's portable path, which needs no compiled library; gradients included."""

    name = "portable"
    ours = True

    def supports(self, problem: Problem, device: str) -> str | None:
        return None

    def operator(self, op: str) -> Callable[..., Tensor]:
        from suites.backends.portable import operator

        return operator(op)
