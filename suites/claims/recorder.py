# SPDX-License-Identifier: BSD-3-Clause
"""What one run of the correctness suite recorded: cases, generated options, and error ratios."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from suites.claims.coverage import OPTIONS, options_of, unsupported_options
from suites.problems.problem import Problem


class Evaluation(NamedTuple):
    """One evaluation of a problem: operands changed for it, and the gradients that it requested."""

    changed: dict[str, Tensor | None] = {}  # noqa: RUF012  (never written to)
    wanted: tuple[str, ...] | None = None  # all of them


@dataclass
class Case:
    """One claim about one target."""

    claim: str = ""
    target: str = ""
    variant: str = ""
    version: str = ""  # of the target's package
    checked: int = 0
    not_reached: int = 0  # problems for which there was no time
    unsupported: Counter = field(default_factory=Counter)  # reason -> problems
    outcome: str = ""
    message: str = ""  # of a failure
    failing: Problem | None = None  # the smallest one found
    evaluations: list[Evaluation] = field(default_factory=list)  # of the failing problem


class Recorder:
    """Collects the results of a run."""

    def __init__(self):
        self.cases: dict[str, Case] = {}
        self.current = Case()
        self.generated: dict[str, Counter] = {space: Counter() for space in OPTIONS}
        self.kills: dict[str, list[tuple[str, str]]] = defaultdict(list)  # claim and message
        self.error_ratios: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)

    def begin(self, key: str, case: Case) -> None:
        """Start a test."""
        self.cases[key] = self.current = case

    def record_evaluation(self, evaluation: Evaluation) -> None:
        """Record an evaluation of the problem that is being checked."""
        self.current.evaluations.append(evaluation)

    def record_supported(self, target, problem: Problem) -> bool:
        """Return whether a target supports a problem, and count it as checked or as unsupported."""
        reason = target.supports(problem)
        case = self.current
        if reason:
            case.unsupported[reason] += 1
            return False
        case.checked += 1
        case.failing, case.evaluations = problem, []  # until the claim holds
        for space, option, name in options_of(problem):
            self.generated[space][option, name] += 1
        return True

    def record_error_ratio(self, target, problem: Problem, result: str, ratio: float) -> None:
        """Record a result's error in units of its tolerance."""
        self.error_ratios[target.name, problem.op, problem.dtype, result].append(ratio)

    def snapshot(self) -> dict:
        """What a worker process recorded, for `merge` in the process that it works for."""
        return {
            "error_ratios": dict(self.error_ratios),
            "generated": self.generated,
            "case": self.current,
        }

    def merge(self, snapshot: dict) -> None:
        """Add what a worker recorded on the current case."""
        there, here = snapshot["case"], self.current
        here.checked += there.checked
        here.unsupported.update(there.unsupported)
        here.evaluations = there.evaluations
        here.failing = there.failing or here.failing
        for key, ratios in snapshot["error_ratios"].items():
            self.error_ratios[key] += ratios
        for space, generated in snapshot["generated"].items():
            self.generated[space].update(generated)

    def never_generated(self, targets: Sequence = ()) -> list[str]:
        """Options that no checked problem had, except those that no target supports."""
        missing = [
            (space, option, name)
            for space, options in OPTIONS.items()
            for option, names in options.items()
            for name in names
            if not self.generated[space][option, name]
        ]
        unsupported = unsupported_options(targets) if missing and targets else set()
        return [f"{s}, {o}: {name}" for s, o, name in missing if (s, o, name) not in unsupported]
