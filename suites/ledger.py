# SPDX-License-Identifier: BSD-3-Clause
"""What one run of the correctness suite saw: cases, options drawn, and the price spent."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from torch import Tensor

from suites.problems import Problem
from suites.strategies import CONV_OPTIONS, POOL_OPTIONS, conv_options, pool_options


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
    given: list[dict[str, Tensor | None]] = field(default_factory=list)  # operands changed for it


class Ledger:
    """Collects, over a session."""

    def __init__(self):
        self.cases: dict[str, Case] = {}
        self.current: Case | None = None
        self.drawn: dict[str, Counter] = {"convolution": Counter(), "pooling": Counter()}
        self.kills: dict[str, list[tuple[str, str]]] = defaultdict(list)  # claim and its words
        self.spent: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)

    def begin(self, key: str, case: Case) -> None:
        """A test starts."""
        self.cases[key] = self.current = case

    def admit(self, target, problem: Problem) -> bool:
        """Count a problem as judged, or as unsupported by the target, which False says."""
        reason = target.supports(problem)
        case = self.current
        if reason:
            case.unsupported[reason] += 1
            return False
        case.judged += 1
        case.failing, case.given = problem, []  # until the claim holds
        conv = problem.op == "deform_conv2d"
        drawn = self.drawn["convolution" if conv else "pooling"]
        for option, names in (conv_options if conv else pool_options)(problem).items():
            for name in names if isinstance(names, tuple) else (names,):
                drawn[option, name] += 1
        return True

    def spend(self, target, problem: Problem, result: str, share: float) -> None:
        """Note the share of its price that a result took."""
        self.spent[target.name, problem.op, problem.dtype, result].append(share)

    # ---- between processes, of which one judges for the other

    def forget(self) -> None:
        """Have `noted` tell only what comes from here on."""
        self.spent.clear()
        case = self.current
        case.judged, case.unsupported, case.failing, case.given = 0, Counter(), None, []
        for drawn in self.drawn.values():
            drawn.clear()

    def noted(self) -> dict:
        """What was noted, for `take` in another process."""
        return {"spent": dict(self.spent), "drawn": self.drawn, "case": self.current}

    def take(self, noted: dict) -> None:
        """Add what another process noted on the current case."""
        there, here = noted["case"], self.current
        here.judged += there.judged
        here.unsupported.update(there.unsupported)
        here.given = there.given
        here.failing = there.failing or here.failing
        for key, shares in noted["spent"].items():
            self.spent[key] += shares
        for space, drawn in noted["drawn"].items():
            self.drawn[space].update(drawn)

    def never_drawn(self) -> list[str]:
        """Options that no judged problem had."""
        return [
            f"{space}, {option}: {name}"
            for space, options in (("convolution", CONV_OPTIONS), ("pooling", POOL_OPTIONS))
            for option, names in options.items()
            for name in names
            if not self.drawn[space][option, name]
        ]


LEDGER = Ledger()
