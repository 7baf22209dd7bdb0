# SPDX-License-Identifier: BSD-3-Clause
"""Runs an implementation, or the reference, on a problem: the result and all gradients, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from suites.problems.problem import Problem

Results = dict[str, Tensor]


def results_of(problem: Problem) -> tuple[str, ...]:
    """Names of a problem's results: "output", and "grad_" with each operand that it has."""
    present = problem.values()
    return (
        "output",
        *(f"grad_{name}" for name in problem.differentiable if present[name] is not None),
    )


def call(function: Callable, problem: Problem, operands: dict[str, Tensor | None]) -> Tensor:
    """The operator's result; operands and options are keyword arguments."""
    return function(**operands, **problem.options())


def evaluate(
    function: Callable,
    problem: Problem,
    operands: dict[str, Tensor | None],
    grad_output: Tensor,
    wanted: Iterable[str] | None = None,
) -> Results:
    """The result and the gradients of the wanted operands (by default, all that exist)."""
    if wanted is None:
        wanted = problem.differentiable
    leaves = {name: None if t is None else t.detach() for name, t in operands.items()}
    needed = [name for name in wanted if leaves[name] is not None]
    for name in needed:
        leaves[name].requires_grad_()
    out = call(function, problem, leaves)
    grads = []
    if needed:
        grads = torch.autograd.grad(out, [leaves[name] for name in needed], grad_output)
    named = {f"grad_{name}": grad for name, grad in zip(needed, grads, strict=True)}
    return {"output": out.detach(), **named}


def arriving(tensors: dict[str, Tensor]) -> Results:
    """A dict that a later backward fills with the gradients of tensors inside the graph."""
    reached: Results = {}
    for name, tensor in tensors.items():
        tensor.register_hook(lambda grad, key=f"grad_{name}": reached.update({key: grad}))
    return reached


def run(
    function: Callable, problem: Problem, device: str = "cpu", wanted: Iterable[str] | None = None
) -> Results:
    """`evaluate` on the problem's own tensors."""
    return evaluate(
        function, problem, problem.operands(device), problem.grad_output(device), wanted
    )
