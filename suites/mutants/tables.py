# SPDX-License-Identifier: BSD-3-Clause
"""Tables of which mutants the claims detect; on a terminal and as a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from suites.claims.recorder import Recorder
from suites.mutants import Mutant
from suites.reporting import report


def mutant_rows(recorder: Recorder, mutants: Sequence[Mutant]) -> pd.DataFrame:
    """A row for each mutant, with the claims that detect it."""
    rows = []
    for mutant in mutants:
        kills = recorder.kills[mutant.key]
        claims = list(dict.fromkeys(claim for claim, _ in kills))
        rows.append(
            {
                "operator": mutant.op,
                "mutant": mutant.name,
                "seen": mutant.origin,
                "outcome": "killed" if kills else "**survived**",
                "claims": len(claims),
                "killed by": "; ".join(claims),
                "message": kills[0][1].splitlines()[0] if kills and kills[0][1] else "",
            }
        )
    return pd.DataFrame(rows)


def summarise_mutants(recorder: Recorder, mutants: Sequence[Mutant]) -> list[tuple[str, list[str]]]:
    """Headings and lines for a terminal."""
    rows = mutant_rows(recorder, mutants)
    killed = (rows["outcome"] == "killed").sum()
    lines = [
        f"{row['operator']}: {row['mutant']}: {row['outcome']} by {row['killed by'] or 'nothing'}"
        for _, row in rows.iterrows()
    ]
    return [("mutants", [*lines, f"{killed} of {len(rows)} killed"])]


def write_mutants(recorder: Recorder, mutants: Sequence[Mutant], directory: Path) -> Path:
    """Write mutants.md and mutants.csv, each mutant tested up to the first claim that detects it.

    Returns:
        Path of the Markdown file.
    """
    rows = mutant_rows(recorder, mutants)
    total = pd.DataFrame(
        [
            {"operator": op, "mutants": len(group), "killed": (group["outcome"] == "killed").sum()}
            for op, group in rows.groupby("operator", sort=False)
        ]
    )
    return report.write_report(
        "mutants",
        rows.drop(columns=["claims"]),
        title="Mutants",
        sections={"Mutants": rows.drop(columns=["message", "claims"])},
        headline=total,
        directory=directory,
    )
