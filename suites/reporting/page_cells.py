# SPDX-License-Identifier: BSD-3-Clause
"""Single figures of reports inside the text and the tables of a page.

`<!-- cell: REPORT; ROW; COLUMN -->...<!-- end -->` is filled with the headline's cell in the row
that has every text of ROW (texts are separated by "; "), as in
`<!-- cell: h200/perf; bf16 contiguous; torchvision fp16; both -->`.
"""

import re
from collections.abc import Callable

_CELL = re.compile(r"<!-- cell: ([^\n]+?) -->.*?<!-- end -->")
MISSING = "not measured"


def fill_cells(text: str, headline: Callable[[str], tuple[str, bool]]) -> str:
    """Return a page's text with its single figures made anew.

    Args:
        text: the page.
        headline: returns, for the name of a report, its headline as a Markdown table (empty if
            there is no such report) and whether the report is stale.
    """

    def cell(match: re.Match) -> str:
        report, *keys, column = match[1].split("; ")
        table, stale = headline(report)
        value = _look_up(table, keys, column)
        value += " (stale)" * (stale and value != MISSING)
        return f"<!-- cell: {match[1]} -->{value}<!-- end -->"

    return _CELL.sub(cell, text)


def _look_up(table: str, keys: list[str], column: str) -> str:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    if not rows or column not in rows[0]:
        return MISSING
    found = [row for row in rows[2:] if set(keys) <= set(row)]
    return found[0][rows[0].index(column)] if found else MISSING
