# SPDX-License-Identifier: BSD-3-Clause
"""Compares two perf.csv files, problem by problem, and fails on regressions.

    python -m suites.perf.compare OLD.csv NEW.csv [--threshold 5%]

Rows match if set, operator, implementation, pass, layer, offsets, dtype, layout and device are
equal. A ratio is the new time over the old one, medians with cold caches: above 1 the new run is
slower.

Exits with 0 without a regression, with 1 if a ratio exceeds 1 by more than the threshold, and with
2 if the files cannot be compared.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from suites.perf.ratios import geometric_mean
from suites.reporting.provenance import device_of, machine_of
from suites.reporting.tables import markdown_table

KEYS = ["set", "op", "implementation", "pass", "layer", "offsets", "dtype", "layout", "device"]
TIME = "cold_p50_ms"
_GROUP = ["op", "implementation", "pass", "dtype", "layout", "device"]


class UnfitFilesError(Exception):
    """The two files cannot be compared; the message is a sentence."""


def read_rows(path: Path) -> pd.DataFrame:
    """Rows of a perf.csv with a column `device`.

    Raises:
        UnfitFilesError: The file is missing or empty, or is no perf.csv.
    """
    try:
        rows = pd.read_csv(path, dtype={"offsets": str, "layer": str})
    except FileNotFoundError:
        raise UnfitFilesError(f"{path} does not exist.") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError):
        raise UnfitFilesError(f"{path} is empty or not a CSV file.") from None
    missing = sorted({*KEYS, TIME, "gpu", "cpu"} - {"device"} - set(rows))
    if missing:
        raise UnfitFilesError(f"{path} is not a perf.csv: it lacks {', '.join(missing)}.")
    rows = rows[rows[TIME].notna()]
    if rows.empty:
        raise UnfitFilesError(f"{path} has no times.")
    rows = rows.fillna({"gpu": "none"})
    return rows.assign(device=rows.gpu.map(device_of))


def compare(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """A row for each problem of both files: the keys, `old_ms`, `new_ms` and `ratio`.

    Raises:
        UnfitFilesError: The machines differ, a problem occurs twice, or none is in both files.
    """
    machines = [_machine(rows) for rows in (old, new)]
    if machines[0] != machines[1]:
        raise UnfitFilesError(f"The machines differ: {machines[0]} and {machines[1]}.")
    for rows in (old, new):
        repeated = rows[rows.duplicated(KEYS)]
        if len(repeated):
            problem = ", ".join(str(repeated.iloc[0][key]) for key in KEYS)
            raise UnfitFilesError(f"A file has two rows of one problem: {problem}.")
    rows = old[[*KEYS, TIME]].merge(new[[*KEYS, TIME]], on=KEYS, suffixes=("_old", "_new"))
    if rows.empty:
        raise UnfitFilesError("The files have no problem in common.")
    rows = rows.rename(columns={f"{TIME}_old": "old_ms", f"{TIME}_new": "new_ms"})
    return rows.assign(ratio=rows.new_ms / rows.old_ms)


def _machine(rows: pd.DataFrame) -> str:
    return " and ".join(
        sorted({machine_of(row) for row in rows[["gpu", "cpu"]].to_dict("records")})
    )


def means(rows: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Geometric means by operator, implementation, pass, dtype and layout, and regressions."""
    lines = []
    for key, part in rows.groupby(_GROUP, sort=False):
        slower = int((part.ratio > 1 + threshold).sum())
        line = dict(zip(_GROUP, key, strict=True)) | {"problems": len(part)}
        line |= {"ratio": geometric_mean(part.ratio), "largest": float(part.ratio.max())}
        lines.append(line | {"regressions": slower or None})
    return pd.DataFrame(lines)


def problem_table(rows: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """A line for each problem, regressions marked."""
    table = rows.drop(columns="device").sort_values("ratio", ascending=False)
    return table.assign(mark=["slower" if r > 1 + threshold else "" for r in table.ratio])


def _share(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def main(words: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.perf.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=_share, default=0.05, help="such as 5%% or 0.05")
    options = parser.parse_args(words)
    try:
        rows = compare(read_rows(options.old), read_rows(options.new))
    except UnfitFilesError as error:
        print(error, file=sys.stderr)
        return 2
    print(markdown_table(problem_table(rows, options.threshold)), end="\n\n")
    print(markdown_table(means(rows, options.threshold)), end="\n\n")
    count = int((rows.ratio > 1 + options.threshold).sum())
    print(
        f"{len(rows)} problems, geometric mean of new / old {geometric_mean(rows.ratio):.3f}, "
        f"{count} slower by more than {options.threshold:.3g}"
    )
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
