# SPDX-License-Identifier: BSD-3-Clause
"""What one run of the correctness suite saw: cases, options drawn, and the price spent."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor

from suites.problems.conv_offsets import OFFSETS
from suites.problems.problem import Problem
from suites.problems.strategies import (
    CONV_OPTIONS,
    POOL_OPTIONS,
    conv_options,
    conv_problems,
    pool_options,
    pool_problems,
)

_PROBES = 500  # problems of each space, of which a target is asked which it supports


def _options(problem: Problem) -> Iterator[tuple[str, str, str]]:
    """The options that a problem covers: the space, the heading, the name."""
    conv = problem.op == "deform_conv2d"
    for option, names in (conv_options if conv else pool_options)(problem).items():
        for name in names if isinstance(names, tuple) else (names,):
            yield "convolution" if conv else "pooling", option, name


def _lacked(targets: Sequence) -> set[tuple[str, str, str]]:
    """Options of which many problems were tried, and none is supported by any target."""
    tried, supported = set(), set()

    @settings(max_examples=_PROBES, phases=[Phase.generate], derandomize=True, database=None,
              deadline=None, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(conv=conv_problems(offsets=OFFSETS), pool=pool_problems())
    def probe(conv, pool):
        for target, drawn in itertools.product(targets, (conv, pool)):
            problem = target.adapt(drawn)
            tried.update(_options(drawn))
            if target.supports(problem) is None:
                supported.update(_options(problem))

    probe()
    return tried - supported


class Evaluation(NamedTuple):
    """One evaluation of a problem: operands changed for it, and whose gradients it asked for."""

    changed: dict[str, Tensor | None] = {}  # noqa: RUF012  (never written to)
    wanted: tuple[str, ...] | None = None  # all of them


@dataclass
class Case:
    """One claim about one target."""

    claim: str
    target: str
    variant: str = ""
    version: str = ""  # of the target's package
    judged: int = 0
    unsupported: Counter = field(default_factory=Counter)  # reason -> problems
    outcome: str = ""
    failing: Problem | None = None  # the smallest one found
    evaluations: list[Evaluation] = field(
        default_factory=list
    )  # its evaluations, where they are noted


class Recorder:
    """Collects, over a session."""

    def __init__(self):
        self.cases: dict[str, Case] = {}
        self.current: Case | None = None
        self.generated: dict[str, Counter] = {"convolution": Counter(), "pooling": Counter()}
        self.kills: dict[str, list[tuple[str, str]]] = defaultdict(list)  # claim and its words
        self.error_ratios: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)

    def begin(self, key: str, case: Case) -> None:
        """A test starts."""
        self.cases[key] = self.current = case

    def record_evaluation(self, evaluation: Evaluation) -> None:
        """An evaluation of the problem that is judged."""
        if self.current:
            self.current.evaluations.append(evaluation)

    def record_supported(self, target, problem: Problem) -> bool:
        """Count a problem as judged, or as unsupported by the target, which False says."""
        reason = target.supports(problem)
        case = self.current
        if reason:
            case.unsupported[reason] += 1
            return False
        case.judged += 1
        case.failing, case.evaluations = problem, []  # until the claim holds
        for space, option, name in _options(problem):
            self.generated[space][option, name] += 1
        return True

    def record_error_ratio(self, target, problem: Problem, result: str, ratio: float) -> None:
        """Record a result's error in units of its tolerance."""
        self.error_ratios[target.name, problem.op, problem.dtype, result].append(ratio)

    # ---- between processes, of which one judges for the other

    def clear(self) -> None:
        """Forget what `snapshot` would return, so that it holds only what comes from here on."""
        self.error_ratios.clear()
        case = self.current
        case.judged, case.unsupported, case.failing, case.evaluations = 0, Counter(), None, []
        for drawn in self.generated.values():
            drawn.clear()

    def snapshot(self) -> dict:
        """What was recorded, for `merge` in another process."""
        return {
            "error_ratios": dict(self.error_ratios),
            "generated": self.generated,
            "case": self.current,
        }

    def merge(self, snapshot: dict) -> None:
        """Add what another process noted on the current case."""
        there, here = snapshot["case"], self.current
        here.judged += there.judged
        here.unsupported.update(there.unsupported)
        here.evaluations = there.evaluations
        here.failing = there.failing or here.failing
        for key, ratios in snapshot["error_ratios"].items():
            self.error_ratios[key] += ratios
        for space, drawn in snapshot["generated"].items():
            self.generated[space].update(drawn)

    def never_generated(self, targets: Sequence = ()) -> list[str]:
        """Options that no judged problem had, but those that no target supports in any problem."""
        missing = [
            (space, option, name)
            for space, options in (("convolution", CONV_OPTIONS), ("pooling", POOL_OPTIONS))
            for option, names in options.items()
            for name in names
            if not self.generated[space][option, name]
        ]
        lacked = _lacked(targets) if missing and targets else set()
        return [f"{s}, {o}: {name}" for s, o, name in missing if (s, o, name) not in lacked]


RECORDER = Recorder()
