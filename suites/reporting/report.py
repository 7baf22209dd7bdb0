# SPDX-License-Identifier: BSD-3-Clause
"""Writes a report: a CSV file with every row and its provenance, and a Markdown file to read."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from suites.reporting.folders import REPORTS
from suites.reporting.provenance import provenance
from suites.reporting.tables import markdown_table

_HEADLINE = ("<!-- headline -->", "<!-- /headline -->")


def write_report(
    name: str,
    rows: pd.DataFrame,
    *,
    title: str,
    sections: Mapping[str, pd.DataFrame | str] | None = None,
    headline: pd.DataFrame | None = None,
    pictures: Sequence[str] = (),
    directory: Path = REPORTS,
    origin: Mapping[str, str] | None = None,
) -> Path:
    """Write `directory`/`name`.csv and .md.

    Args:
        name: File name without a suffix.
        rows: One row per measurement.
        title: Heading of the Markdown file.
        sections: Tables or texts by heading, in reading order; by default the rows themselves.
        headline: A few rows that pages may quote.
        pictures: File names, relative to `directory`, shown at the end.
        directory: Folder, made if missing.
        origin: The provenance; by default that of this process.

    Returns:
        Path of the Markdown file.
    """
    origin = dict(origin or provenance())
    directory.mkdir(parents=True, exist_ok=True)
    rows.assign(**origin).to_csv(directory / f"{name}.csv", index=False, float_format="%.6g")
    parts = [f"# {title}"]
    if headline is not None:
        parts.append("\n".join([_HEADLINE[0], markdown_table(headline), _HEADLINE[1]]))
    for heading, body in (sections or {"Rows": rows}).items():
        text = body if isinstance(body, str) else markdown_table(body)
        parts.append(f"## {heading}\n\n{text}")
    parts += [f"![{picture}]({picture})" for picture in pictures]
    block = pd.DataFrame(origin.items(), columns=["provenance", "value"])
    parts.append(f"## Provenance\n\n{markdown_table(block)}")
    path = directory / f"{name}.md"
    path.write_text("\n\n".join(parts) + "\n")
    return path


def headline_of(report: Path) -> str:
    """The headline of a report as a Markdown table; empty if there is none."""
    text = report.read_text() if report.exists() else ""
    found = re.search(f"{_HEADLINE[0]}\n(.*?)\n{_HEADLINE[1]}", text, re.DOTALL)
    return found[1] if found else ""
