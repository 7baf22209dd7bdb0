# SPDX-License-Identifier: BSD-3-Clause
"""README and the pages of docs/ and reports/ quote the headlines of reports."""

import re
from pathlib import Path

from suites.reporting.folders import REPORTS, ROOT
from suites.reporting.page_cells import fill_cells
from suites.reporting.provenance import PEER_VERSIONS, is_stale, machine_of, read_provenance
from suites.reporting.report import headline_of

PAGES = (
    ROOT / "README.md",
    *(
        page
        for folder in (ROOT / "docs", REPORTS)
        for page in sorted(folder.rglob("*.md"))
        if "<!-- report: " in page.read_text()
    ),
)
STALE = "(stale: measured on older code)"


def fill_page(text: str, directory: Path = REPORTS, page: Path = PAGES[0]) -> str:
    """The text of a page with its blocks renewed, each up to its `<!-- end -->`.

    `<!-- report: NAME -->` holds the headline of a report, marked if the report is stale.
    `<!-- picture: NAME, CAPTION -->` holds a picture, if it exists; for single figures see
    `page_cells`. Links lead from `page`, by default README.md, to `directory`, which is next to
    README.md.

    Raises:
        ValueError: A block names a report without a headline.
    """
    folder = "../" * (len(page.relative_to(ROOT).parts) - 1) + directory.name

    def block(match: re.Match) -> str:
        report = directory / f"{match[1]}.md"
        link = f"{folder}/{match[1]}.md"
        body = _page_block(report, link) if report.exists() else "Not measured yet."
        return f"<!-- report: {match[1]} -->\n{body}\n<!-- end -->"

    def picture(match: re.Match) -> str:
        name, caption = match[1], match[2]
        shown = f"![{caption}]({folder}/{name})\n" if (directory / name).exists() else ""
        return f"<!-- picture: {name}, {caption} -->\n{shown}<!-- end -->"

    text = re.sub(r"<!-- report: (\S+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)
    pattern = r"<!-- picture: (\S+), ([^\n]+) -->\n.*?<!-- end -->"
    text = re.sub(pattern, picture, text, flags=re.DOTALL)

    def headline(name: str) -> tuple[str, bool]:
        report = directory / f"{name}.md"
        return headline_of(report), report.exists() and is_stale(report)

    return fill_cells(text, headline)


def _page_block(report: Path, link: str) -> str:
    headline = headline_of(report)
    if not headline:
        raise ValueError(f"{report} has no headline")
    origin = read_provenance(report)
    versions = ", ".join(
        f"{name} {origin.get(name)}"
        for name in ("torch", "torchvision", *PEER_VERSIONS)
        if name in origin or name not in PEER_VERSIONS
    )
    source = f"`{origin.get('command')}` on {machine_of(origin)}, {versions}, {origin.get('date')}"
    mark = f" {STALE}" if is_stale(report) else ""
    return f"{headline}\n\n{source}: [{report.stem}]({link}){mark}."
