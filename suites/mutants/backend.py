# SPDX-License-Identifier: BSD-3-Clause
"""A plain implementation, faulty or not, as a backend."""

from __future__ import annotations

from collections.abc import Callable

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
    """A plain convolution as a function with our argument names."""

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
        origin: where such a fault was seen, or "classic".
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


def collector(op: str, into: list[Mutant]) -> Callable:
    """A decorator that lists an implementation as a mutant: `@planted("what is wrong", "seen")`."""

    def planted(name: str, origin: str = "classic") -> Callable[[type], type]:
        def add(implementation: type) -> type:
            into.append(Mutant(name, implementation, op, origin))
            return implementation

        return add

    return planted
