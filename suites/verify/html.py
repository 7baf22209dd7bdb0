# SPDX-License-Identifier: BSD-3-Clause
"""Parts of a self-contained HTML page: tables, scripts, bars, and ranges on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid #ddd; }
td.number { text-align: right; white-space: nowrap; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; font-size: .8rem; }
.holds { color: #1a7f37; } .fails { color: #c5221f; font-weight: 600; }
.other { color: #666; } summary { cursor: pointer; }
svg text { font: 12px system-ui, sans-serif; fill: #1a1a1a; }
"""
_CLASS = {"holds": "holds", "fails": "fails", "right": "holds", "wrong": "fails"}
_LEAST = 1e-6  # the left end of the axis of ranges
_ROW = 18  # pixels
_LEFT, _WIDTH = 280, 620


def page(title: str, *blocks: str) -> str:
    """A whole page."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f'</title><meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"</head><body>\n<h1>{escape(title)}</h1>\n" + "\n".join(blocks) + "\n</body></html>\n"
    )


def section(heading: str, *blocks: str) -> str:
    """A heading and what follows it."""
    return f"<h2>{escape(heading)}</h2>\n" + "\n".join(blocks)


def paragraph(text: str) -> str:
    """A paragraph; a text that begins with a verdict has its colour."""
    word = text.split(" ", 1)[0].lower()
    kind = f' class="{_CLASS[word]}"' if word in _CLASS else ""
    return f"<p{kind}>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers are aligned, and verdicts coloured."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f'<td class="number">{value:,.4g}</td>'
    kind = _CLASS.get(str(value), "other" if value in ("unsupported", "not reached") else "")
    return f'<td class="{kind}">{escape(str(value))}</td>'


def folded(summary: str, text: str, open_: bool = False) -> str:
    """A text that a click on its summary shows."""
    return (
        f"<details{' open' if open_ else ''}><summary>{escape(summary)}</summary>"
        f"<pre>{escape(text)}</pre></details>"
    )


def bars(rows: Sequence[tuple[str, float]], unit: str) -> str:
    """A horizontal bar for each labelled value."""
    most = max((value for _, value in rows), default=0) or 1
    drawn = []
    for index, (label, value) in enumerate(rows):
        width = max(1.0, value / most * (_WIDTH - 100))
        drawn.append(_label(index, label) + _bar(index, 0, width, "#4c78a8"))
        drawn.append(f'<text x="{_LEFT + width + 6:.0f}" y="{_y(index)}">{value:.3g} {unit}</text>')
    return _svg(drawn, len(rows))


def ranges(rows: Sequence[tuple[str, float, float]]) -> str:
    """A bar from the median to the largest ratio of each label; a line marks 1."""
    high = max([10.0, *(most for _, _, most in rows if math.isfinite(most))])
    decades = math.log10(high / _LEAST)

    def place(ratio: float) -> float:
        ratio = min(max(ratio, _LEAST), high)
        return math.log10(ratio / _LEAST) / decades * _WIDTH

    drawn = []
    for index, (label, median, most) in enumerate(rows):
        start, end = place(median), place(most)
        colour = "#c5221f" if most > 1 else "#54a24b"
        drawn.append(_label(index, label) + _bar(index, start, max(end - start, 3), colour))
        drawn.append(f"<title>{escape(label)}: {median:.2g} to {most:.2g}</title>")
    height, limit = len(rows) * _ROW, _LEFT + place(1)
    drawn.append(
        f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="0" y2="{height}" stroke="#1a1a1a"/>'
        f'<text x="{limit + 4:.1f}" y="{height + 14}">1: all of the tolerance</text>'
        f'<text x="{_LEFT}" y="{height + 14}">{_LEAST:g}</text>'
    )
    return _svg(drawn, len(rows) + 1)


def _label(index: int, label: str) -> str:
    return f'<text x="{_LEFT - 8}" y="{_y(index)}" text-anchor="end">{escape(label)}</text>'


def _bar(index: int, start: float, width: float, colour: str) -> str:
    return (
        f'<rect x="{_LEFT + start:.1f}" y="{index * _ROW + 4}" width="{width:.1f}" '
        f'height="{_ROW - 7}" fill="{colour}"/>'
    )


def _y(index: int) -> int:
    return index * _ROW + 14


def _svg(drawn: Sequence[str], rows: int) -> str:
    size = f"0 0 {_LEFT + _WIDTH + 10} {rows * _ROW + 4}"
    return (
        f'<svg viewBox="{size}" role="img" xmlns="http://www.w3.org/2000/svg">'
        + "".join(drawn)
        + "</svg>"
    )
