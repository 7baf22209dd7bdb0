# SPDX-License-Identifier: BSD-3-Clause
"""What `dcnv2 bench` writes and prints: bench.html, bench.md, bench.json, and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from suites.reporting.tables import format_number, markdown_table
from suites.verify import html

_METHOD = (
    "Median times on random offsets of two pixels, with cold caches. Memory is the peak beyond "
    "operands and results. conv2d is a regular convolution of the same shape, a practical lower "
    "bound. Results are first compared with torchvision's in float64; wrong ones are not timed."
)


@dataclass(frozen=True)
class Row:
    """One measurement, or why there is none.

    Attributes:
        layer: its name in the perf suite's catalogue.
        dtype: of the operands.
        passes: forward or backward.
        implementation: its name.
        ms: median time in milliseconds.
        workspace_mib: peak memory beyond operands and results.
        remark: why it was not measured.
        wrong: whether that is because its results are wrong, or it raised an error.
    """

    layer: str
    dtype: str
    passes: str
    implementation: str
    ms: float | None = None
    workspace_mib: float | None = None
    remark: str = ""
    wrong: bool = False

    def but(self, **changes) -> Row:
        """The row with some fields changed."""
        return replace(self, **changes)


def screen(name: str, rows: Sequence[Row]) -> list[str]:
    """The lines for a terminal: a row for each layer and pass, then what was not measured."""
    return [_table(rows).to_string(index=False, na_rep=""), *_remarks(name, rows)]


def _remarks(name: str, rows: Sequence[Row]) -> list[str]:
    own = [row for row in rows if row.implementation == name]
    parts: dict[str, list[str]] = {}
    for row in own:
        if row.remark:
            parts.setdefault(row.remark, []).append(f"{row.layer} {row.passes}")
    return [f"{remark}: {', '.join(places)}" for remark, places in parts.items()]


def _table(rows: Sequence[Row]) -> pd.DataFrame:
    """Times in ms, a column for each implementation; what was not measured says so."""
    keys = ("layer", "dtype", "passes")
    table: dict[tuple, dict[str, str]] = {}
    for row in rows:
        cell = "wrong" if row.wrong else "" if row.ms is None else format_number(row.ms)
        place = tuple(getattr(row, key) for key in keys)
        table.setdefault(place, dict(zip(keys, place, strict=True)))
        table[place][f"{row.implementation} ms"] = cell or "not reached" * (
            row.remark == "not reached"
        )
    return pd.DataFrame(list(table.values())).rename(columns={"passes": "pass"}).fillna("")


def write(name: str, rows: Sequence[Row], origin: Mapping[str, str], folder: Path) -> Path:
    """Write bench.json, bench.md and bench.html; return the page."""
    data = {"rows": [asdict(row) for row in rows], "origin": dict(origin)}
    (folder / "bench.json").write_text(json.dumps(data, indent=1) + "\n")
    where = pd.DataFrame(origin.items(), columns=["", "value"])
    parts = [f"# Times of {name}", _METHOD, markdown_table(_table(rows)), *_remarks(name, rows)]
    (folder / "bench.md").write_text("\n\n".join([*parts, markdown_table(where)]) + "\n")
    path = folder / "bench.html"
    path.write_text(_html(name, rows, origin), encoding="utf-8")
    return path


def _html(name: str, rows: Sequence[Row], origin: Mapping[str, str]) -> str:
    places = dict.fromkeys((row.layer, row.dtype, row.passes) for row in rows)
    blocks = []
    for place in places:
        here = [row for row in rows if (row.layer, row.dtype, row.passes) == place]
        times = [(row.implementation, row.ms) for row in here if row.ms is not None]
        memory = [
            (row.implementation, row.workspace_mib) for row in here if row.workspace_mib is not None
        ]
        remarks = [f"{row.implementation}: {row.remark}" for row in here if row.remark]
        parts = [html.bars(times, "ms")] if times else []
        parts += [html.paragraph("Memory"), html.bars(memory, "MiB")] if memory else []
        blocks.append(html.section(" ".join(place), *parts, *map(html.paragraph, remarks)))
    return html.page(
        f"Times of {name}",
        html.paragraph(_METHOD),
        *blocks,
        html.section("Provenance", html.table(["", ""], list(origin.items()))),
    )
