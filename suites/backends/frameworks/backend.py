# SPDX-License-Identifier: BSD-3-Clause
"""A framework of another environment as a backend of the suites, on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from suites.backends.calling_conventions import missing_argument
from suites.backends.forward_only import forward_only
from suites.backends.frameworks.environments import FRAMEWORKS, adapter_of
from suites.backends.frameworks.process import Process
from suites.problems.problem import Problem

_OPERANDS = ("input", "offset", "weight", "bias", "mask")


class Framework:
    """An adapter, called in a process of its own.

    That process may die without harm to this one, so claims need no worker of theirs.

    Attributes:
        needs: the package that its environment has, and its version.
        lacking: which claims are unsupported, by their mark, and why.
    """

    ours = False
    safe = True

    def __init__(self, name: str):
        if not FRAMEWORKS[name].built:
            raise ValueError(
                f"there is no environment of {name}; run: "
                f"python -m suites.backends.frameworks.environments {name}"
            )
        self.name = name
        self._adapter = adapter_of(name)
        self._process = Process(name)
        self.dtypes = self._adapter.DTYPES
        self.gradients = self._adapter.GRADIENTS
        self.unsupported_args = getattr(self._adapter, "UNSUPPORTED_ARGS", ())
        self.version = self._adapter.REQUIREMENTS[0].partition("==")[2]
        self.needs = self._adapter.REQUIREMENTS[0]
        self.lacking = {"integers": "pairs only", "tensors": "no PyTorch tensors"}
        if not self.gradients:
            self.lacking["gradients"] = "no gradients"
        if not self._adapter.THREADS:
            self.lacking["threads"] = "no number of threads to set"

    def adapt(self, problem: Problem) -> Problem:
        """Make every operand contiguous: frameworks copy the arrays that they are given."""
        return problem.but(layouts=())

    def supports(self, problem: Problem, device: str) -> str | None:
        if problem.op != "deform_conv2d":
            return f"no {problem.op}"
        if device != "cpu":
            return "only on the CPU"
        if problem.dtype not in self.dtypes:
            return f"no {problem.dtype}"
        if problem.dtypes:
            return "no mixed dtypes"
        if missing := missing_argument(problem, self.unsupported_args):
            return missing
        unsupported = getattr(self._adapter, "unsupported", None)
        return unsupported(problem) if unsupported else None

    def operator(self, op: str) -> Callable[..., Tensor]:
        return self._conv if self.gradients else forward_only(self._forward)

    def _forward(self, **arguments) -> np.ndarray:
        window = {name: arguments.pop(name) for name in ("stride", "padding", "dilation")}
        return self._call(window, arguments)["output"]

    def _conv(self, **arguments) -> Tensor:
        window = {name: arguments.pop(name) for name in ("stride", "padding", "dilation")}
        return _Function.apply(self, window, *(arguments[name] for name in _OPERANDS))

    def _call(self, window: dict, operands: dict[str, Tensor | None]) -> dict[str, np.ndarray]:
        arrays = {n: None if t is None else t.detach().numpy() for n, t in operands.items()}
        return self._process.call({**window, "threads": torch.get_num_threads()}, arrays)


class _Function(torch.autograd.Function):
    """The framework's own gradients, from a second call that repeats its forward."""

    @staticmethod
    def forward(ctx, framework, window, *operands):
        ctx.framework, ctx.window = framework, window
        ctx.save_for_backward(*operands)
        named = dict(zip(_OPERANDS, operands, strict=True))
        return torch.from_numpy(framework._call(window, named)["output"])

    @staticmethod
    def backward(ctx, grad_output):
        named = dict(zip(_OPERANDS, ctx.saved_tensors, strict=True))
        named["grad_output"] = grad_output
        results = ctx.framework._call(ctx.window, named)
        grads = (results.get(f"grad_{name}") for name in _OPERANDS)
        return None, None, *(None if g is None else torch.from_numpy(g) for g in grads)
