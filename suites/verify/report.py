# SPDX-License-Identifier: BSD-3-Clause
"""What `dcnv2 verify` writes and prints: verify.html, verify.md, verify.json, and a few lines."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from suites.claims.recorder import Recorder
from suites.claims.tables import error_ratio_table
from suites.reporting.tables import markdown_table
from suites.verify import html
from suites.verify.script import first_line
from suites.verify.verdicts import Verdict, in_words

_MOST_SHOWN = 5  # failures on the screen
_TOLERANCE = (
    "Errors in units of the tolerance: each bar is from the median to the largest error of a "
    "result. Above 1 an error is larger than rounding explains."
)


@dataclass(frozen=True)
class Report:
    """All that the files and the screen say.

    Attributes:
        name: of the implementation.
        target: what it is, for the reader: device, dtypes, gradients, what is not supported.
        lacking: why the implementation does not support a dtype: what it raised.
        verdicts: on every claim.
        recorder: of the run.
        scripts: file names by claim, where a script shows the failure.
        repeat: the command that repeats one claim, but for the claim's name.
        origin: where it was run.
    """

    name: str
    target: Sequence[str]
    lacking: Mapping[str, str]
    verdicts: Sequence[Verdict]
    recorder: Recorder
    scripts: Mapping[str, str]
    repeat: str
    origin: Mapping[str, str]

    @property
    def failures(self) -> list[Verdict]:
        """The claims that fail."""
        return [verdict for verdict in self.verdicts if verdict.verdict == "fails"]

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        counts = Counter(verdict.verdict for verdict in self.verdicts)
        checked = counts["holds"] + counts["fails"]
        word = "fails" if counts["fails"] else "holds" if checked else "nothing was checked"
        parts = [f"{counts[v]} {v}" for v in ("unsupported", "skipped", "not reached") if counts[v]]
        cut = [v for v in self.verdicts if "fewer" in v.remarks or "not reached" in v.remarks]
        if cut:
            parts.append(f"{len(cut)} checked in part")
        fails = f"{counts['fails']} of {checked} claims fail" if counts["fails"] else ""
        held = "" if fails or not checked else f"all {checked} claims that were checked"
        rest = f" ({', '.join(parts)})" if parts else ""
        return (
            " ".join(filter(None, (word.upper() + ":" * bool(fails or held), fails, held))) + rest
        )

    def repeat_of(self, verdict: Verdict) -> str:
        """The command that shows a failure again."""
        if verdict.claim in self.scripts:
            return f"python {self.scripts[verdict.claim]}"
        return f'{self.repeat} --only "{verdict.claim}"'

    def claim_rows(self) -> list[tuple[str, str, int, str]]:
        """A row for each claim: name, verdict, problems, remarks."""
        return [(v.claim, v.verdict, v.checked, v.remarks) for v in self.verdicts]

    def ratio_rows(self) -> list[tuple[str, float, float]]:
        """A row for each dtype and result: label, median and largest error ratio."""
        rows = error_ratio_table(self.recorder)
        return [(f"{r.dtype} {r.result}", r.median, r.max) for r in rows.itertuples()]


def screen(report: Report) -> list[str]:
    """The lines for a terminal: what failed, how far off, on what, and how to repeat it."""
    lines = [f"{report.name}: {', '.join(report.target)}", report.headline]
    alike: dict[str, list[Verdict]] = {}  # an operator that raises fails many claims the same way
    for verdict in report.failures:
        alike.setdefault(first_line(verdict.failed.message), []).append(verdict)
    for number, (message, same) in enumerate(list(alike.items())[:_MOST_SHOWN], start=1):
        case = same[0].failed
        variant = f" [{case.variant}]" if case.variant else ""
        more = f" (and {len(same) - 1} more claims)" if len(same) > 1 else ""
        lines += ["", f"{number}. {case.claim}{variant}{more}", f"   {message}"]
        if case.failing is not None:
            lines.append(f"   on: {in_words(case.failing)}")
        lines.append(f"   repeat: {report.repeat_of(same[0])}")
    if len(alike) > _MOST_SHOWN:
        lines += ["", f"and {len(alike) - _MOST_SHOWN} more failures, in the report"]
    return lines


def write(report: Report, folder: Path) -> Path:
    """Write verify.json, verify.md and verify.html; return the page."""
    (folder / "verify.json").write_text(json.dumps(_as_data(report), indent=1) + "\n")
    (folder / "verify.md").write_text(_markdown(report))
    path = folder / "verify.html"
    path.write_text(_html(report, folder), encoding="utf-8")
    return path


def _as_data(report: Report) -> dict:
    claims = [
        {
            "claim": verdict.claim,
            "verdict": verdict.verdict,
            "checked": verdict.checked,
            "remarks": verdict.remarks,
            "script": report.scripts.get(verdict.claim),
            "variants": [
                {
                    "variant": case.variant,
                    "outcome": case.outcome or "not reached",
                    "checked": case.checked,
                    "not_reached": case.not_reached,
                    "unsupported": dict(case.unsupported),
                    "message": case.message,
                    "problem": asdict(case.failing)
                    if case.failing and case.outcome == "failed"
                    else None,
                }
                for case in verdict.cases
            ],
        }
        for verdict in report.verdicts
    ]
    ratios = [
        {"result": label, "median": _finite(median), "max": _finite(most)}
        for label, median, most in report.ratio_rows()
    ]
    return {
        "headline": report.headline,
        "target": list(report.target),
        "lacking": dict(report.lacking),
        "claims": claims,
        "error_ratios": ratios,
        "origin": dict(report.origin),
    }


def _finite(value: float) -> float | str:
    """JSON has no infinity."""
    return value if math.isfinite(value) else str(value)


def _markdown(report: Report) -> str:
    columns = ["claim", "verdict", "problems", "remarks"]
    parts = [f"# {report.name}", f"**{report.headline}**", ", ".join(report.target)]
    if report.failures:
        rows = [
            (v.claim, first_line(v.failed.message), f"`{report.repeat_of(v)}`")
            for v in report.failures
        ]
        failing = pd.DataFrame(rows, columns=["failing claim", "how", "repeat"])
        parts.append(markdown_table(failing))
    parts.append(markdown_table(pd.DataFrame(report.claim_rows(), columns=columns)))
    where = pd.DataFrame(report.origin.items(), columns=["", "value"])
    return "\n\n".join([*parts, markdown_table(where)]) + "\n"


def _html(report: Report, folder: Path) -> str:
    failing = []
    for verdict in report.failures:
        case = verdict.failed
        variant = f" [{case.variant}]" if case.variant else ""
        failing.append(f"<h3>{html.escape(verdict.claim + variant)}</h3>")
        failing.append(html.paragraph(first_line(case.message)))
        if case.failing is not None:
            failing.append(html.paragraph(f"Smallest problem: {in_words(case.failing)}"))
        if verdict.claim in report.scripts:
            path = report.scripts[verdict.claim]
            failing.append(
                html.folded(Path(path).name, (folder / "failures" / Path(path).name).read_text())
            )
        else:
            failing.append(html.folded("To repeat it", report.repeat_of(verdict), open_=True))
    ratios = report.ratio_rows()
    return html.page(
        report.name,
        html.paragraph(report.headline),
        html.paragraph(", ".join(report.target)),
        *(html.paragraph(f"No {what}: {why}") for what, why in report.lacking.items()),
        *([html.section("Failures", *failing)] if failing else []),
        html.section(
            "Claims", html.table(["claim", "verdict", "problems", "remarks"], report.claim_rows())
        ),
        *(
            [html.section("Tolerance", html.paragraph(_TOLERANCE), html.ranges(ratios))]
            if ratios
            else []
        ),
        html.section("Provenance", html.table(["", ""], list(report.origin.items()))),
    )
