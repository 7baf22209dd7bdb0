# SPDX-License-Identifier: BSD-3-Clause
"""A naive implementation, faulty or not, as a backend."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor

from suites.problems.problem import Problem
from suites.tolerance.naive_conv import NaiveConv


class _Conv(torch.autograd.Function):
    """A `NaiveConv` under autograd."""

    @staticmethod
    def forward(ctx, conv, options, input, offset, weight, bias, mask):
        ctx.save_for_backward(input, offset, weight, bias, mask)
        ctx.conv, ctx.options = conv, options
        operands = _received(conv, (input, offset, weight, bias, mask))
        sizes = conv.sizes(operands["input"], operands["offset"], operands["weight"], *options)
        return conv.returned("output", conv.forward(**operands, sizes=sizes), input.dtype)

    @staticmethod
    def backward(ctx, grad_output):
        conv, saved = ctx.conv, ctx.saved_tensors
        operands = _received(conv, saved)
        grad = conv.received("grad_output", grad_output).to(operands["input"].dtype)
        sizes = conv.sizes(operands["input"], operands["offset"], operands["weight"], *ctx.options)
        del operands["bias"]
        grads = conv.backward(grad, **operands, sizes=sizes)
        wanted = conv.wanted(ctx.needs_input_grad[2:])
        results = [
            conv.returned(f"grad_{name}", grads[name], tensor.dtype) if want else None
            for (name, tensor), want in zip(zip(_NAMES, saved, strict=True), wanted, strict=True)
        ]
        return None, None, *results


_NAMES = ("input", "offset", "weight", "bias", "mask")


def _received(conv: NaiveConv, tensors) -> dict[str, Tensor | None]:
    """The operands as the implementation reads them, in the dtype that it computes in."""
    compute = torch.float64 if tensors[0].dtype == torch.float64 else torch.float32
    return {
        name: None if t is None else conv.received(name, t).to(compute)
        for name, t in zip(_NAMES, tensors, strict=True)
    }


def conv_operator(conv: NaiveConv) -> Callable[..., Tensor]:
    """A naive convolution as a function with our argument names."""

    def pair(value):
        return (value, value) if isinstance(value, int) else value

    def operator(input, offset, weight, bias, mask, stride, padding, dilation):
        options = (pair(stride), pair(padding), pair(dilation))
        return _Conv.apply(conv, options, input, offset, weight, bias, mask)

    return operator


class Mutant:
    """One implementation of one operator.

    Attributes:
        name: what is wrong, in a few words.
        op: the operator.
        origin: where such an error was seen, or "classic".
    """

    ours = True

    def __init__(self, name: str, implementation: type, op: str, origin: str = "classic"):
        self.name, self.op, self.origin = name, op, origin
        self._implementation = implementation

    @property
    def key(self) -> str:
        """Name and operator."""
        return f"{self.op}: {self.name}"

    def supports(self, problem: Problem, device: str) -> str | None:
        return None if problem.op == self.op else f"no {problem.op}"

    def operator(self, op: str) -> Callable[..., Tensor]:
        implementation = self._implementation()
        if self.op == "deform_conv2d":
            return conv_operator(implementation)
        return implementation


def mutants_of(naive: type, op: str) -> tuple[list[Mutant], Callable]:
    """A list of mutants of a naive implementation, and the function that adds one to it.

    `mutant("what is wrong", "where it was seen", step=replacement)` replaces steps: a replacement
    takes the step itself, bound to its implementation, and then the step's arguments.
    """
    mutants: list[Mutant] = []

    def mutant(name: str, origin: str = "classic", **steps: Callable) -> None:
        methods = {step: _replaced(getattr(naive, step), steps[step]) for step in steps}
        mutants.append(Mutant(name, type("Faulty", (naive,), methods), op, origin))

    return mutants, mutant


def _replaced(step: Callable, replacement: Callable) -> Callable:
    def method(self, *operands, **named):
        return replacement(MethodType(step, self), *operands, **named)

    return method
