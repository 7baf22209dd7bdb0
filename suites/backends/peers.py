# SPDX-License-Identifier: BSD-3-Clause
"""Other implementations as backends: torchvision, mmcv, and any function of a user."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from operator import attrgetter

from torch import Tensor

from suites.backends.calling_conventions import CONVENTIONS, convention_of
from suites.problems.problem import Problem


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

    It reads most operands as if they were contiguous. Claims on layouts report that; all other
    claims use contiguous operands.
    """

    name = "mmcv"
    ours = False
    version = property(lambda self: importlib.import_module("mmcv").__version__)
    called_as = "mmcv.ops:modulated_deform_conv2d@mmcv"

    def adapt(self, problem: Problem) -> Problem:
        """Make every operand contiguous."""
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
