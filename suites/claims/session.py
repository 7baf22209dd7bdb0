# SPDX-License-Identifier: BSD-3-Clause
"""One run of the suite: how many problems it generates, what it expects, what it has recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from suites.backends.registry import Target
from suites.claims.budget import Budget
from suites.claims.recorder import Recorder
from suites.problems.problem import DTYPES, Problem
from suites.tolerance.expectation import Expectation


@dataclass(frozen=True)
class Profile:
    """How a run generates problems.

    Attributes:
        factor: examples of a claim, as a multiple of its own number.
        shrink: whether a failing problem is reduced to the smallest one that fails.
        derandomize: whether every run generates the same problems.
        shrink_s: the time for that reduction; if a process dies, each step takes a second.
        dtypes: the only ones that are checked.
    """

    factor: float = 1.0
    shrink: bool = True
    derandomize: bool = True
    shrink_s: float = 10
    dtypes: tuple[str, ...] = DTYPES


class Session:
    """The state of one run. A worker process receives an empty session of the same profile."""

    def __init__(self, profile: Profile | None = None, budget: Budget | None = None):
        self.profile = profile or Profile()
        self.budget = budget or Budget()
        self.recorder = Recorder()
        self.expectation = lru_cache(maxsize=2048)(Expectation)

    def __reduce__(self):
        return Session, (self.profile,)


@dataclass(frozen=True)
class CheckedTarget(Target):
    """A target and the session that checks it."""

    session: Session = field(compare=False, repr=False)

    def supports(self, problem: Problem) -> str | None:
        if problem.dtype not in self.session.profile.dtypes:
            return f"{problem.dtype} was not selected"
        return super().supports(problem)
