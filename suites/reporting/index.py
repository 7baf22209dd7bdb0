# SPDX-License-Identifier: BSD-3-Clause
"""The index of the reports."""

from pathlib import Path

import pandas as pd

from suites.reporting.folders import REPORTS
from suites.reporting.provenance import is_stale, machine_of, read_provenance
from suites.reporting.tables import markdown_table

NOTEBOOK = "<!-- notebook -->"  # the first line of a page in reports/ that is written by hand

_ABOUT = """\
# Reports

`python -m suites.reporting` writes this page. A report is stale if the sources of the library that
it measured have changed since: the CUDA library on a machine with a GPU, otherwise the CPU library.
Changes of comments and white space do not count. `csrc` is the digest of those sources.

"""


def all_reports(directory: Path = REPORTS) -> list[Path]:
    """Every Markdown report below `directory`, except the index and pages written by hand."""
    pages = sorted(path for path in directory.rglob("*.md") if path != directory / "README.md")
    return [page for page in pages if not _is_notebook(page)]


def _is_notebook(page: Path) -> bool:
    return page.read_text().startswith(NOTEBOOK)


def index_text(directory: Path = REPORTS) -> str:
    """The index: a row for each report with its origin, and whether it is stale."""
    rows = []
    for report in all_reports(directory):
        origin = read_provenance(report)
        link = report.relative_to(directory).as_posix()
        rows.append(
            {
                "report": f"[{link.removesuffix('.md')}]({link})",
                "machine": machine_of(origin),
                "date": origin.get("date", ""),
                "commit": origin.get("commit", ""),
                "csrc": origin.get("csrc_digest", ""),
                "state": "**stale**" if is_stale(report) else "current",
            }
        )
    columns = ["report", "machine", "date", "commit", "csrc", "state"]
    table = markdown_table(pd.DataFrame(rows, columns=columns))
    notebooks = [page for page in sorted(directory.rglob("*.md")) if _is_notebook(page)]
    links = [page.relative_to(directory).as_posix() for page in notebooks]
    by_hand = [f"\nWritten by hand: [{link.removesuffix('.md')}]({link})\n" for link in links]
    return f"{_ABOUT}{table}\n{''.join(by_hand)}"
