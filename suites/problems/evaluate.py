# SPDX-License-Identifier: BSD-3-Clause
"""Runs an implementation, or the reference, on a problem: the result and all gradients, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from suites.problems.problem import Problem

Results = dict[str, Tensor]


class NoGradientsError(RuntimeError):
    """A claim uses gradients of an implementation that has none, so it is unsupported."""

    def __init__(self):
        super().__init__("no gradients")


class OutputOnly(Results):
    """Results without gradients; what asks for one raises `NoGradientsError`."""

    def __missing__(self, name: str) -> Tensor:
        if name.startswith("grad_"):
            raise NoGradientsError
        raise KeyError(name)


def results_of(problem: Problem) -> tuple[str, ...]:
    """Names of a problem's results: "output", and "grad_" with each operand that it has."""
    present = problem.values()
    return (
        "output",
        *(f"grad_{name}" for name in problem.differentiable if present[name] is not None),
    )


def call(function: Callable, problem: Problem, operands: dict[str, Tensor | None]) -> Tensor:
    """The operator's result; operands and options are keyword arguments."""
    return problem.single(function(**problem.arguments(operands), **problem.options()))


def evaluate(
    function: Callable,
    problem: Problem,
    operands: dict[str, Tensor | None],
    grad_output: Tensor,
    wanted: Iterable[str] | None = None,
) -> Results:
    """The result and the gradients of the wanted operands (by default, all that exist).

    An implementation without gradients (`suites.backends.forward_only`) has `OutputOnly`.
    """
    if wanted is None:
        wanted = problem.differentiable
    leaves = {name: None if t is None else t.detach() for name, t in operands.items()}
    needed = [name for name in wanted if leaves[name] is not None]
    for name in needed:
        leaves[name].requires_grad_()
    out = call(function, problem, leaves)
    grads = []
    if needed:
        try:
            grads = torch.autograd.grad(out, [leaves[name] for name in needed], grad_output)
        except NoGradientsError:
            return OutputOnly(output=out.detach())
    named = {f"grad_{name}": grad for name, grad in zip(needed, grads, strict=True)}
    return {"output": out.detach(), **named}


def arriving(tensors: dict[str, Tensor]) -> Results:
    """A dict that a later backward fills with the gradients of tensors inside the graph."""
    reached: Results = {}
    for name, tensor in tensors.items():
        tensor.register_hook(lambda grad, key=f"grad_{name}": reached.update({key: grad}))
    return reached


def zeros_like(results: Results) -> Results:
    """Results of the same names and shapes that are zero."""
    return type(results)((name, torch.zeros_like(result)) for name, result in results.items())


def run(
    function: Callable, problem: Problem, device: str = "cpu", wanted: Iterable[str] | None = None
) -> Results:
    """`evaluate` on the problem's own tensors."""
    return evaluate(
        function, problem, problem.operands(device), problem.grad_output(device), wanted
    )
