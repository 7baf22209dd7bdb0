# SPDX-License-Identifier: BSD-3-Clause
"""How claims are written: a check of a target on random problems, and what it may assert.

@claim(conv_problems())
def test_zero_offset_is_conv2d(target, problem):
    ...
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor

from suites.backends.registry import Target
from suites.claims.isolation import isolated_check
from suites.claims.recorder import RECORDER, Evaluation
from suites.problems.evaluate import Results, evaluate, expected
from suites.problems.problem import DTYPES, Problem
from suites.problems.strategies import preferring
from suites.tolerance.magnitudes import conv_magnitudes, pool_magnitudes, term_counts
from suites.tolerance.tolerance import Tolerance, decided, rounding_tolerance, tolerances

_SHRINKING_S = 10  # at most, of a claim that failed; where a process dies, a step takes a second
PROFILE = {"factor": 1, "shrink": True, "derandomize": True}


def generation_settings(count: int) -> settings:
    """Settings of Hypothesis for this many examples, times the profile's factor."""
    phases = [Phase.explicit, Phase.generate]
    return settings(
        max_examples=max(1, round(count * PROFILE["factor"])),
        phases=[*phases, Phase.shrink] if PROFILE["shrink"] else phases,
        derandomize=PROFILE["derandomize"],
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def claim(strategy, count: int = 40) -> Callable:
    """Make a test of `check(target, problem, ...)`, run on random problems.

    A problem that the target does not support is counted as such and not judged; a test that
    judged none is skipped, with the reasons. A peer is judged in a process of its own, so a crash
    is a failure like others. Of failing problems the smallest that is found in some seconds counts.
    Further arguments of the check come from pytest.

    Args:
        strategy: of problems, or a function from the check's further arguments to one.
        count: examples in the default profile.
    """

    def decorate(check: Callable) -> Callable:
        others = list(inspect.signature(check).parameters)[2:]

        def test(target, **arguments):
            chosen = strategy(**arguments) if inspect.isfunction(strategy) else strategy

            def judged(problem):
                check(target, problem, **arguments)

            failing: dict[Problem, float] = {}  # and when each was found
            last: tuple[Problem | None, list[Evaluation]] = (None, [])  # that failed, and how
            dtypes = getattr(target.backend, "dtypes", DTYPES)

            with preferring(dtypes), isolated_check(judged, target) as run:

                def drawn(problem):
                    nonlocal last
                    late = failing and time.monotonic() > min(failing.values()) + _SHRINKING_S
                    if late and problem not in failing:
                        return
                    if RECORDER.record_supported(target, problem):
                        try:
                            run(problem)
                        except Exception:
                            failing.setdefault(problem, time.monotonic())
                            last = problem, RECORDER.current.evaluations
                            raise
                        RECORDER.current.failing, RECORDER.current.evaluations = last

                # Draws are seeded by the name: others for each claim, the same for each target.
                drawn.__name__ = check.__name__
                generation_settings(count)(given(problem=chosen.map(target.adapt))(drawn))()
            _skip_if_none_judged()

        test.__name__, test.__doc__, test.__module__ = (
            check.__name__,
            check.__doc__,
            check.__module__,
        )
        parameters = [inspect.Parameter("target", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        parameters += [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in others]
        test.__signature__ = inspect.Signature(parameters)
        test.is_claim = True
        test.pytestmark = list(getattr(check, "pytestmark", []))
        return test

    return decorate


def _skip_if_none_judged() -> None:
    case = RECORDER.current
    if not case.judged:
        pytest.skip("unsupported: " + "; ".join(case.unsupported))


def require_supported(target: Target, *problems: Problem) -> None:
    """Count fixed problems as judged; skip the test if the target does not support one of them."""
    supported = [RECORDER.record_supported(target, problem) for problem in problems]
    if not all(supported):
        RECORDER.current.judged = 0
        _skip_if_none_judged()


def run_with(
    target: Target,
    problem: Problem,
    wanted: Iterable[str] | None = None,
    grad_output: Tensor | None = None,
    **changed: Tensor | None,
) -> Results:
    """The target's results on a problem's tensors, some of them changed."""
    own = {} if grad_output is None else {"grad_output": grad_output}
    wanted = None if wanted is None else tuple(wanted)
    RECORDER.record_evaluation(Evaluation({**changed, **own}, wanted))
    operands = {**problem.operands(target.device), **changed}
    grad_output = problem.grad_output(target.device) if grad_output is None else grad_output
    return evaluate(target.backend.operator(problem.op), problem, operands, grad_output, wanted)


# ---- what a claim may assert


def assert_shapes(problem: Problem, got: Results, want: Results) -> None:
    """Every result is there, in its shape and in the dtype of its operand."""
    assert got.keys() == want.keys()
    for name, result in got.items():
        dtype = problem.operand_dtype(name.removeprefix("grad_"))
        assert result.shape == want[name].shape, f"{name} has shape {tuple(result.shape)}"
        assert result.dtype == dtype, f"{name} has dtype {result.dtype}"


def assert_equals_reference(
    target: Target, problem: Problem, got: Results, allowed: dict[str, Tolerance] | None = None
) -> None:
    """Every result lies within its price of the truth, and is NaN exactly where that is."""
    RECORDER.record_evaluation(Evaluation())
    want, allowed = expected(problem), allowed or tolerances(problem)
    assert_shapes(problem, got, want)
    ratios = {name: allowed[name].error_ratio(result, want[name]) for name, result in got.items()}
    for name, result in got.items():
        compared = decided(problem, name)
        assert_same_nans(name, result.cpu()[compared], want[name][compared])
    for name, ratio in ratios.items():
        RECORDER.record_error_ratio(target, problem, name, ratio)
    exceeded = {name: round(ratio, 2) for name, ratio in ratios.items() if not ratio <= 1}
    assert not exceeded, f"error in units of the tolerance, 1 being allowed: {exceeded}"


def assert_same_nans(name: str, got: Tensor, want: Tensor) -> None:
    """NaN in the same places."""
    got, want = got.cpu().isnan(), want.cpu().isnan()
    assert not (got & ~want).any(), f"{name} has a NaN that the definition does not have"
    assert not (want & ~got).any(), f"{name} lacks a NaN that the definition has"


def identity_tolerance(
    problem: Problem, factor: float = 2, **changed: Tensor | None
) -> dict[str, Tolerance]:
    """What rounding may make of an identity, from the size of what is added up alone.

    So an identity is judged without the reference. For float64 and float32.

    Args:
        problem: gives the sizes.
        factor: how many evaluations of such sizes the identity compares.
        changed: operands other than the problem's own.
    """
    changed = {k: v if v is None else v.detach().cpu().double() for k, v in changed.items()}
    sizes = (conv_magnitudes if problem.op == "deform_conv2d" else pool_magnitudes)(
        problem, **changed
    )
    terms, dtype = term_counts(problem), problem.operand_dtype("input")
    allowed = {}
    for name, size in sizes.items():
        one = rounding_tolerance(size, size, terms[name], dtype)
        allowed[name] = Tolerance(factor * one.euclidean, factor * one.maximum, None)
    return allowed


def assert_within(
    allowed: dict[str, Tolerance], left: Results, right: Results, *names: str
) -> None:
    """Two results of an identity differ by no more than rounding; all common ones by default."""
    for name in names or sorted(left.keys() & right.keys()):
        a, b = left[name].cpu().double(), right[name].cpu().double()
        assert a.shape == b.shape, f"{name}: {tuple(a.shape)} and {tuple(b.shape)}"
        ratio = allowed[name].error_ratio(a, b)
        assert ratio <= 1, f"{name} differs by {ratio:.3g} times what rounding may make of it"


def assert_agrees(target: Target, problem: Problem, got: Results, want: Results) -> None:
    """Two evaluations of the same tensors agree, whatever the reference says.

    Ours must be bit-identical; peers may differ by twice the tolerance.
    """
    if target.backend.ours:
        assert_same_bits(got, want)
        return
    for name, tolerance in tolerances(problem, at_kinks=True).items():
        assert_same_nans(name, got[name], want[name])
        one, other = (result[name].cpu().double().nan_to_num() for result in (got, want))
        ratio = tolerance.error_ratio(one, other)
        assert ratio <= 2, f"{name} differs by {ratio:.3g} times what rounding may make of it"


def assert_derivative(target: Target, function: Callable, leaf: Tensor, **options: float) -> None:
    """Difference quotients agree with the gradient.

    That another run gives it in the same bits is a claim of its own, asked here of this library.
    """
    tolerance = 0.0 if target.backend.ours else math.inf
    assert torch.autograd.gradcheck(function, leaf, nondet_tol=tolerance, **options)


def assert_layout_changes_nothing(
    target: Target, problem: Problem, operand: str, layout: str
) -> None:
    """An operand in another layout gives what it gives contiguous, but for rounding."""
    laid = problem.but(layouts=((operand, layout),)).operands(target.device)[operand]
    got = run_with(target, problem, **{operand: laid})
    want = run_with(target, problem, **{operand: laid.contiguous().clone()})
    assert_within(identity_tolerance(problem, **{operand: laid}), got, want)


def assert_same_bits(left: Results, right: Results) -> None:
    """Two results agree in every bit, NaNs included."""
    assert left.keys() == right.keys()
    for name, result in left.items():
        same = torch.equal(result.nan_to_num(nan=12345.0), right[name].nan_to_num(nan=12345.0))
        assert same, f"{name} differs in its bits"
        assert_same_nans(name, result, right[name])
