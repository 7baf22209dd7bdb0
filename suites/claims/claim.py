# SPDX-License-Identifier: BSD-3-Clause
"""A claim: a test of `check(target, problem)` that runs on many generated problems.

@claim(conv_problems())
def test_zero_offset_is_conv2d(target, problem):
    ...
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from suites.claims.isolation import isolated_check
from suites.claims.recorder import Evaluation
from suites.claims.session import CheckedTarget, Profile
from suites.problems.problem import DTYPES, Problem
from suites.problems.strategies import preferring


def generation_settings(count: int, profile: Profile) -> settings:
    """Settings of Hypothesis for that many examples, times the profile's factor."""
    phases = [Phase.explicit, Phase.generate]
    return settings(
        max_examples=max(1, round(count * profile.factor)),
        phases=[*phases, Phase.shrink] if profile.shrink else phases,
        derandomize=profile.derandomize,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def claim(strategy, count: int = 40) -> Callable:
    """Make a test of `check(target, problem, ...)` that runs on generated problems.

    A problem that the target does not support is counted as such and not checked; a test that
    checked none is skipped, with the reasons. A peer runs in a worker process, so a crash is a
    failure like others. Of failing problems, the smallest one found in some seconds is reported.
    Further arguments of the check come from pytest.

    Args:
        strategy: of problems, or a function from the check's further arguments to one.
        count: examples in the default profile.
    """

    def decorate(check: Callable) -> Callable:
        def test(target, **arguments):
            chosen = strategy(**arguments) if inspect.isfunction(strategy) else strategy
            _run(check, chosen, count, target, arguments)

        others = list(inspect.signature(check).parameters)[2:]
        parameters = [inspect.Parameter("target", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        parameters += [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in others]
        test.__signature__ = inspect.Signature(parameters)
        test.__name__, test.__doc__ = check.__name__, check.__doc__
        test.__module__ = check.__module__
        test.is_claim = True
        test.pytestmark = list(getattr(check, "pytestmark", []))
        return test

    return decorate


def _run(check: Callable, strategy, count: int, target: CheckedTarget, arguments: dict) -> None:
    """Check a target on problems of a strategy."""
    profile, recorder = target.session.profile, target.session.recorder
    failing: dict[Problem, float] = {}  # when each was found
    last: tuple[Problem | None, list[Evaluation]] = (None, [])  # the last failure
    own, budget = getattr(target.backend, "dtypes", DTYPES), target.session.budget
    dtypes = tuple(dtype for dtype in own if dtype in profile.dtypes)

    def check_problem(problem):
        check(target, problem, **arguments)

    with preferring(dtypes), isolated_check(check_problem, target) as run:

        def generated(problem):
            nonlocal last
            late = failing and time.monotonic() > min(failing.values()) + profile.shrink_s
            if late and problem not in failing:
                return
            if not failing and recorder.current.checked and budget.claim_over:
                recorder.current.not_reached += 1
                return
            if recorder.record_supported(target, problem):
                try:
                    run(problem)
                except Exception:
                    failing.setdefault(problem, time.monotonic())
                    last = problem, recorder.current.evaluations
                    raise
                recorder.current.failing, recorder.current.evaluations = last

        # The name seeds Hypothesis: claims have different problems, targets of a claim the same.
        generated.__name__ = check.__name__
        test = given(problem=strategy.map(target.adapt))(generated)
        generation_settings(count, profile)(test)()
    _skip_if_unsupported(target)


def _skip_if_unsupported(target: CheckedTarget) -> None:
    case = target.session.recorder.current
    if not case.checked:
        pytest.skip("unsupported: " + "; ".join(case.unsupported))


def require_supported(target: CheckedTarget, *problems: Problem) -> None:
    """Count fixed problems as checked; skip the test if the target does not support one of them."""
    recorder = target.session.recorder
    supported = [recorder.record_supported(target, problem) for problem in problems]
    if not all(supported):
        recorder.current.checked = 0
        _skip_if_unsupported(target)
