# SPDX-License-Identifier: BSD-3-Clause
"""Adapters for functions that take or return NumPy arrays, and for functions without gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from suites.problems.evaluate import NoGradientsError


def taking_arrays(function: Callable) -> Callable[..., Tensor]:
    """A function of NumPy arrays as one of tensors."""

    @functools.wraps(function)
    def call(*arguments):
        arrays = [a.detach().cpu().numpy() if isinstance(a, Tensor) else a for a in arguments]
        return function(*arrays)

    return call


def forward_only(operator: Callable) -> Callable[..., Tensor]:
    """An operator whose function has no gradients; its backward raises `NoGradientsError`.

    The function gets tensors that require no gradient, and may return an array.
    """

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, names, *values):
            count = len(values) - len(names)
            out = operator(*values[:count], **dict(zip(names, values[count:], strict=True)))
            device = next(value.device for value in values if isinstance(value, Tensor))
            return as_tensor(out, device)

        @staticmethod
        def backward(ctx, grad_output):
            raise NoGradientsError

    def call(*arguments, **named):
        return Function.apply(tuple(named), *arguments, *named.values())

    return call


def as_tensor(out: object, device: torch.device) -> object:
    """An array as a tensor on a device; anything else as it is."""
    if isinstance(out, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(out)).to(device)
    return out
