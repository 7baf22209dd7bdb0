# SPDX-License-Identifier: BSD-3-Clause
"""What a claim may assert about a target's results, and the evaluations that it makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from suites.claims.recorder import Evaluation
from suites.claims.session import CheckedTarget
from suites.problems.evaluate import OutputOnly, Results, evaluate
from suites.problems.problem import Problem
from suites.tolerance.tolerance import Tolerance, identity_tolerance


def run_with(
    target: CheckedTarget,
    problem: Problem,
    wanted: Iterable[str] | None = None,
    grad_output: Tensor | None = None,
    **changed: Tensor | None,
) -> Results:
    """The target's results on a problem's tensors, some of them changed."""
    own = {} if grad_output is None else {"grad_output": grad_output}
    wanted = None if wanted is None else tuple(wanted)
    target.session.recorder.record_evaluation(Evaluation({**changed, **own}, wanted))
    operands = {**problem.operands(target.device), **changed}
    grad_output = problem.grad_output(target.device) if grad_output is None else grad_output
    return evaluate(target.backend.operator(problem.op), problem, operands, grad_output, wanted)


def assert_shapes(problem: Problem, got: Results, want: Results) -> None:
    """Every expected result exists, with the right shape and with the dtype of its operand."""
    expected = {"output"} if isinstance(got, OutputOnly) else want.keys()
    assert got.keys() == expected, f"results are {sorted(got)}, expected {sorted(expected)}"
    for name, result in got.items():
        shape, dtype = want[name].shape, problem.operand_dtype(name.removeprefix("grad_"))
        assert result.shape == shape, f"{name}: shape {tuple(result.shape)}, not {tuple(shape)}"
        assert result.dtype == dtype, f"{name}: dtype {result.dtype}, not {dtype}"


def assert_equals_reference(
    target: CheckedTarget, problem: Problem, got: Results, at_kinks: bool = False
) -> None:
    """Every result is within its tolerance of the truth, and is NaN exactly where the truth is.

    Integers are equal.

    Args:
        target: what made the results.
        problem: what they are results of.
        got: the results.
        at_kinks: whether gradients of points on a kink are compared too.
    """
    recorder, expectation = target.session.recorder, target.session.expectation(problem)
    recorder.record_evaluation(Evaluation())
    want = expectation.truth
    if not want["output"].is_floating_point():
        assert_shapes(problem, got, want)
        assert_same_bits({name: result.cpu() for name, result in got.items()}, want)
        return
    tolerances = expectation.tolerances_at_kinks if at_kinks else expectation.tolerances
    assert_shapes(problem, got, want)
    ratios = {n: tolerances[n].error_ratio(result, want[n]) for n, result in got.items()}
    for name, result in got.items():
        compared = expectation.decided(name)
        assert_same_nans(name, result.cpu()[compared], want[name][compared])
    for name, ratio in ratios.items():
        recorder.record_error_ratio(target, problem, name, ratio)
    exceeded = [f"{name} by a factor of {r:.3g}" for name, r in ratios.items() if not r <= 1]
    assert not exceeded, f"error exceeds the tolerance: {', '.join(exceeded)}"


def assert_same_nans(name: str, got: Tensor, want: Tensor) -> None:
    """Two tensors are NaN in the same elements."""
    got, want = got.cpu().isnan(), want.cpu().isnan()
    more, fewer = int((got & ~want).sum()), int((want & ~got).sum())
    assert not more, f"{name}: NaN in {more} elements where the reference is a number"
    assert not fewer, f"{name}: a number in {fewer} elements where the reference is NaN"


def assert_within(
    tolerances: dict[str, Tolerance], left: Results, right: Results, *names: str
) -> None:
    """Two results of an identity differ by no more than rounding; all common ones by default."""
    for name in names or sorted(left.keys() & right.keys()):
        a, b = left[name].cpu().double(), right[name].cpu().double()
        assert a.shape == b.shape, f"{name}: shapes {tuple(a.shape)} and {tuple(b.shape)}"
        _assert_close(name, tolerances[name].error_ratio(a, b))


def _assert_close(name: str, ratio: float, allowed: float = 1) -> None:
    assert ratio <= allowed, f"{name}: both sides differ by {ratio:.3g} times the tolerance"


def assert_agrees(target: CheckedTarget, problem: Problem, got: Results, want: Results) -> None:
    """Two evaluations of the same tensors agree; the reference is not involved.

    Ours must be bit-identical; peers may differ by twice the tolerance.
    """
    if target.backend.ours or not want["output"].is_floating_point():
        assert_same_bits(got, want)
        return
    for name, tolerance in target.session.expectation(problem).tolerances_at_kinks.items():
        if isinstance(got, OutputOnly) and name != "output":
            continue
        assert_same_nans(name, got[name], want[name])
        one, other = (result[name].cpu().double().nan_to_num() for result in (got, want))
        _assert_close(name, tolerance.error_ratio(one, other), 2)


def assert_derivative(
    target: CheckedTarget, function: Callable, leaf: Tensor, **options: float
) -> None:
    """Difference quotients agree with the gradient; ours must also repeat it bit for bit."""
    tolerance = 0.0 if target.backend.ours else math.inf
    assert torch.autograd.gradcheck(function, leaf, nondet_tol=tolerance, **options)


def assert_layout_changes_nothing(
    target: CheckedTarget, problem: Problem, operand: str, layout: str
) -> None:
    """An operand in another layout has the results of its contiguous copy, up to rounding."""
    laid = problem.but(layouts=((operand, layout),)).operands(target.device)[operand]
    got = run_with(target, problem, **{operand: laid})
    want = run_with(target, problem, **{operand: laid.contiguous().clone()})
    assert_within(identity_tolerance(problem, **{operand: laid}), got, want)


def assert_same_bits(left: Results, right: Results) -> None:
    """Two results agree in every bit, NaNs included."""
    assert left.keys() == right.keys(), f"results are {sorted(left)} and {sorted(right)}"
    for name, result in left.items():
        one, other = (t.nan_to_num(nan=12345.0) for t in (result, right[name]))
        differing = int((one != other).sum()) if one.shape == other.shape else "all"
        assert torch.equal(one, other), f"{name} differs in the bits of {differing} elements"
        assert_same_nans(name, result, right[name])
