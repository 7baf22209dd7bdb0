# SPDX-License-Identifier: BSD-3-Clause
"""CSV files that grow row by row and survive a process that dies while it writes."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dcnv2.engine.runtime.files import check_file, set_aside, write_atomically

log = logging.getLogger("dcnv2")


def append_row(path: Path, values: Mapping[str, float]) -> None:
    """Appends a row in the order of the file's header; a new column is added to every row."""
    text = path.read_text() if path.exists() else ""
    columns = text.split("\n", 1)[0].split(",") if text else []
    new_columns = [key for key in values if key not in columns]
    if new_columns and columns:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        text = table.reindex(columns=[*columns, *new_columns], fill_value="").to_csv(index=False)
        write_atomically(path, text)
    columns += new_columns
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        if not text:
            writer.writeheader()
        writer.writerow(values)


def steps_of(path: Path) -> list[int]:
    """Returns the steps of a file's rows; none without a file."""
    if not path.exists():
        return []
    return [_step(line) for line in path.read_text().splitlines()[1:]]


def drop_rows_after(path: Path, step: int) -> None:
    """Removes the rows of later steps, and a last row that was not written completely.

    If the file is damaged in another way, a warning names it: its readable rows remain, and the
    original is kept under another name.
    """
    if not os.path.lexists(path):
        return
    try:
        check_file(path)
        header, *rows = path.read_text().split("\n")[:-1] or [""]
        if header and header.split(",")[0] != "step":
            raise ValueError(f"{path}: the first column is not step")
    except (OSError, ValueError) as error:
        log.warning("damaged, kept as %s: %s", set_aside(path), error)
        return
    width = len(header.split(","))
    complete = [row for row in rows if len(row.split(",")) == width and _is_numeric(row)]
    if len(complete) < len(rows):
        lost = len(rows) - len(complete)
        log.warning("%s: %d damaged rows; kept as %s", path, lost, set_aside(path))
    kept = [row for row in complete if _step(row) <= step]
    write_atomically(path, "".join(f"{line}\n" for line in [header, *kept] if line))


def _step(row: str) -> int:
    return int(row.split(",")[0])


def _is_numeric(row: str) -> bool:
    try:
        _step(row)
        for field in filter(None, row.split(",")):
            float(field)
    except ValueError:
        return False
    return True
