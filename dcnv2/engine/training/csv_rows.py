# SPDX-License-Identifier: BSD-3-Clause
"""CSV files that grow row by row and survive a process that dies while it writes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dcnv2.engine.runtime.run_folder import write_atomically


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


def drop_rows_after(path: Path, step: int) -> None:
    """Removes the rows of later steps, and a last row that was not written completely."""
    if not path.exists():
        return
    header, *rows = path.read_text().split("\n")[:-1] or [""]
    width = len(header.split(","))
    complete = [row for row in rows if len(row.split(",")) == width]
    kept = [row for row in complete if int(row.split(",")[0]) <= step]
    write_atomically(path, "".join(f"{line}\n" for line in [header, *kept] if line))
