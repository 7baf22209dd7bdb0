# SPDX-License-Identifier: BSD-3-Clause
"""The implementations that a suite can check: ours, peers', and any function of a user.

A backend says which problems it supports, and has a function with our argument names for each
operator:

    deform_conv2d(input, offset, weight, bias, mask, stride, padding, dilation)
    deform_roi_pool, deform_psroi_pool, multiscale_roi_align, batched_nms: as in dcnv2.ops

`get_backend` knows `dcnv2`; its CUDA kernels by path (`dcnv2-simt`, `dcnv2-mma`, `dcnv2-wgmma`);
the same kernels without a GPU (`emulated-simt`, `emulated-mma`, `emulated-wgmma`); `portable`,
`torchvision` and `mmcv`; frameworks that have an environment of their own, such as `paddle`
(`suites.backends.frameworks`); and `module.path:function`, an operator of yours. Its argument names
select one of the conventions of `suites.backends.calling_conventions`; `module.path:function@mmcv`
names one. If the module has a function `supports(problem)`, it returns None for a supported
problem, or the reason why it is not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from suites.backends.frameworks.backend import Framework
from suites.backends.frameworks.environments import FRAMEWORKS
from suites.backends.ours import CONV_PATHS, Dcnv2, Dcnv2Path, Emulated, Portable
from suites.backends.peers import Mmcv, Torchvision, User
from suites.problems.evaluate import Results, run
from suites.problems.problem import ConvProblem, Problem


class Backend(Protocol):
    """What the suites need of an implementation."""

    name: str
    ours: bool  # whether claims about this library's own promises apply
    # Optional attributes:
    #   version           of its package
    #   called_as         "module:function@convention" by operator, for reports/verdicts/run.py
    #   safe              never crashes (default: `ours`)
    #   in_place          never copies a whole image
    #   unsupported_args  which of mask, bias and groups it has no argument for
    #   lacking           marks of claims that are unsupported (`suites/correctness/conftest.py`)
    #   dtypes            the only ones to generate where a claim leaves the choice
    #   adapt(problem)    a similar problem that it supports

    def supports(self, problem: Problem, device: str) -> str | None:
        """None, or the reason why a problem is not supported."""

    def operator(self, op: str) -> Callable[..., Any]:
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
        """None, or the reason why not."""
        return self.backend.supports(problem, self.device)

    def adapt(self, problem: Problem) -> Problem:
        """The problem, or a similar one that the backend supports."""
        adapt = getattr(self.backend, "adapt", None)
        return adapt(problem) if adapt else problem

    def adapt_fixed(self, problem: ConvProblem) -> ConvProblem:
        """`adapt` for a claim's fixed problem, without operands that the backend does not take."""
        least = {"mask": False, "bias": False, "groups": 1}
        unsupported_args = getattr(self.backend, "unsupported_args", ())
        if problem.op == "deform_conv2d":
            problem = problem.but(**{name: least[name] for name in unsupported_args})
        return self.adapt(problem)

    def run(self, problem: Problem, wanted: Iterable[str] | None = None) -> Results:
        """Result and gradients on the problem's own tensors."""
        return run(self.backend.operator(problem.op), problem, self.device, wanted)


BACKENDS = {cls.name: cls for cls in (Dcnv2, Portable, Torchvision, Mmcv)}
PATHS = {f"dcnv2-{path}": path for path in CONV_PATHS}
EMULATED = {f"emulated-{path}": path for path in CONV_PATHS}


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
    if name in FRAMEWORKS:
        return Framework(name)
    if name not in BACKENDS:
        known = ", ".join((*BACKENDS, *PATHS, *EMULATED, *FRAMEWORKS))
        raise ValueError(f"backend must be one of {known} or module.path:function, got {name}")
    if name in ("torchvision", "mmcv") and importlib.util.find_spec(name) is None:
        raise ValueError(f"backend {name} is not installed")
    return BACKENDS[name]()


def devices() -> list[str]:
    """The devices of this machine."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
