# SPDX-License-Identifier: BSD-3-Clause
"""The verdict on every claim, from the cases of its variants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from suites.claims.recorder import Case
from suites.problems.problem import ConvProblem, Problem

_PLAIN = ConvProblem(
    batch=1, in_channels=1, out_channels=1, height=1, width=1, kernel=(1, 1), stride=(1, 1),
    padding=(0, 0), dilation=(1, 1), groups=1, deform_groups=1, bias=False, mask=False,
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What is known about one claim.

    Attributes:
        claim: its name.
        verdict: holds, fails, unsupported, skipped or not reached.
        cases: its variants.
    """

    claim: str
    verdict: str
    cases: tuple[Case, ...]

    @property
    def failed(self) -> Case | None:
        """The first variant that fails."""
        return next((case for case in self.cases if case.outcome == "failed"), None)

    @property
    def checked(self) -> int:
        """How many problems were checked."""
        return sum(c.checked for c in self.cases if c.outcome in ("passed", "failed"))

    @property
    def remarks(self) -> str:
        """What the verdict does not say: variants that fail, and what was not reached."""
        counts = Counter(case.outcome for case in self.cases)
        parts = []
        if counts["failed"] and len(self.cases) > 1:
            parts.append(f"{counts['failed']} of {len(self.cases)} variants fail")
        if counts["unsupported"] and self.verdict != "unsupported":
            parts.append(f"{counts['unsupported']} unsupported")
        if counts["not reached"] and self.verdict != "not reached":
            parts.append(f"{counts['not reached']} variants not reached")
        if self.verdict in ("holds", "fails") and any(case.not_reached for case in self.cases):
            parts.append("on fewer problems than planned")
        reasons = {reason for case in self.cases for reason in case.unsupported}
        if self.verdict == "unsupported" or counts["unsupported"]:
            parts.append("; ".join(sorted(reasons)))
        return ", ".join(parts)


def verdicts(cases: Sequence[Case]) -> list[Verdict]:
    """The verdict on every claim, in the order in which they were checked."""
    by_claim: dict[str, list[Case]] = {}
    for case in cases:
        by_claim.setdefault(case.claim, []).append(case)
    return [Verdict(claim, _verdict(own), tuple(own)) for claim, own in by_claim.items()]


def _verdict(cases: Sequence[Case]) -> str:
    outcomes = {case.outcome for case in cases}
    for outcome, verdict in (
        ("failed", "fails"),
        ("passed", "holds"),
        ("not reached", "not reached"),
        ("", "not reached"),  # the run was interrupted
        ("unsupported", "unsupported"),
    ):
        if outcome in outcomes:
            return verdict
    return "skipped"


def in_words(problem: Problem) -> str:
    """A problem, without what is plain in it."""
    if not isinstance(problem, ConvProblem):
        return repr(problem)
    height, width = problem.kernel
    words = [
        f"{problem.dtype}, input {problem.batch}x{problem.in_channels}x{problem.height}x"
        f"{problem.width}, {problem.out_channels} output channels, kernel {height}x{width}"
    ]
    for name in ("stride", "padding", "dilation"):
        pair = getattr(problem, name)
        if pair != getattr(_PLAIN, name):
            words.append(f"{name} {pair[0]}x{pair[1]}")
    for name in ("groups", "deform_groups"):
        if getattr(problem, name) > 1:
            words.append(f"{getattr(problem, name)} {name.replace('_', ' ')}")
    words += [f"with {name}" for name in ("bias", "mask") if getattr(problem, name)]
    words += [f"{name} {layout}" for name, layout in problem.layouts]
    words += [f"{name} {dtype}" for name, dtype in problem.dtypes]
    return ", ".join([*words, f"{problem.offsets} offsets, seed {problem.seed}"])
