# SPDX-License-Identifier: BSD-3-Clause
"""Other implementations as backends: torchvision, mmcv, and any function of a user."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from inspect import isclass, isfunction, signature
from operator import attrgetter
from types import ModuleType
from typing import ClassVar

from torch import Tensor

from suites.backends.calling_conventions import CONVENTIONS, convention_of, missing_argument
from suites.backends.forward_only import forward_only, taking_arrays
from suites.problems.problem import DTYPES, Problem


class Torchvision:
    """torchvision.ops.deform_conv2d."""

    name = "torchvision"
    ours = False
    version = property(lambda self: importlib.import_module("torchvision").__version__)
    called_as: ClassVar = {"deform_conv2d": "torchvision.ops:deform_conv2d@torchvision"}

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op != "deform_conv2d":
            return f"no {problem.op}"
        if problem.dtype == "bfloat16":
            return "no bfloat16"
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
    called_as: ClassVar = {
        "deform_conv2d": "mmcv.ops:modulated_deform_conv2d@mmcv",
        "deform_roi_pool": "mmcv.ops:deform_roi_pool@roi_pool",
    }

    def adapt(self, problem: Problem) -> Problem:
        """Make every operand contiguous."""
        return problem.but(layouts=())

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op in ("deform_psroi_pool", "batched_nms"):
            return f"no {problem.op}"
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
    """An operator `module.path:function`, or `module.path:function@convention`.

    `suites.claims.probe` finds out on the first calls what it takes and supports.

    Attributes:
        op: what it computes.
        arrays: whether it takes NumPy arrays.
        lacking: why something is not supported: a dtype, "mixed dtypes", "gradients", or
            "integers" for pairs.
    """

    ours = False

    def __init__(self, spec: str):
        place, _, convention = spec.partition("@")
        self.name = spec
        self._function, module = find_function(place)
        convention = convention or _recognised(place, self._function)
        if convention not in CONVENTIONS:
            known = ", ".join(CONVENTIONS)
            raise ValueError(f"convention of {spec} must be one of {known}, got {convention}")
        self.convention = CONVENTIONS[convention]
        self.op = self.convention.op
        self.unsupported_args = self.convention.unsupported_args
        self.called_as = {self.op: f"{place}@{convention}"}
        package = sys.modules[place.partition(".")[0].partition(":")[0]]
        self.version = str(getattr(package, "__version__", ""))
        self._declared = getattr(module, "supports", None)
        self.arrays = False
        self.lacking: dict[str, str] = {}

    @property
    def gradients(self) -> bool:
        """Whether its result is differentiable."""
        return "gradients" not in self.lacking

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes that it supports."""
        return tuple(dtype for dtype in DTYPES if dtype not in self.lacking)

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op != self.op:
            return f"no {problem.op}"
        if missing := missing_argument(problem, self.unsupported_args):
            return missing
        if problem.dtype in self.lacking:
            return f"no {problem.dtype}"
        if problem.dtypes and "mixed dtypes" in self.lacking:
            return "no mixed dtypes"
        return self._declared(problem) if self._declared else None

    @property
    def function(self) -> Callable:
        """The user's function, of tensors."""
        return taking_arrays(self._function) if self.arrays else self._function

    def operator(self, op: str) -> Callable[..., Tensor]:
        operator = self.convention.adapt(self.function)
        return operator if self.gradients else forward_only(operator)


def find_function(place: str) -> tuple[Callable, ModuleType]:
    """The function `module.path:name`, and its module.

    Raises:
        ValueError: one sentence that says what is wrong with it.
    """
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"wanted module:function, got {place}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"{module_name} needs a module that is missing: {error}") from error
        raise ValueError(
            f"there is no module {error.name} in this folder, on PYTHONPATH or installed"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{module_name} can't be imported: {type(error).__name__}: {error}"
        ) from error
    try:
        function = attrgetter(name)(module)
    except AttributeError as error:
        own = [n for n, v in vars(module).items() if isfunction(v) and n[0] != "_"]
        known = f"; it has {', '.join(own)}" if own else ""
        raise ValueError(f"module {module_name} has no {name}{known}") from error
    if isclass(function):
        raise ValueError(f"{place} is a class; name a function, such as Class.apply of autograd's")
    if not callable(function):
        raise ValueError(f"{place} is of type {type(function).__name__}, not a function")
    return function, module


def _recognised(place: str, function: Callable) -> str:
    """The convention of a function, whose arguments must fit it."""
    try:
        name = convention_of(function)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    try:
        parameters = signature(function)
    except (TypeError, ValueError):
        return name  # such as a builtin function
    wanted = CONVENTIONS[name].arguments
    try:
        parameters.bind(*wanted)
    except TypeError as error:
        raise ValueError(
            f"{place}{parameters} can't be called with {', '.join(wanted)} (convention {name}): "
            f"{error}; name another convention, as in {place}@NAME with one of "
            f"{', '.join(CONVENTIONS)}"
        ) from error
    return name
