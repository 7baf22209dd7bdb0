# SPDX-License-Identifier: BSD-3-Clause
"""One page of verdicts on implementations, from reports of the correctness suite.

    pytest suites/correctness --backend torchvision --device cpu --report out
    python -m suites.peers.page out

adds the rows of out/correctness.csv and the data files of out/failures to reports/verdicts.md, .csv
and reports/verdicts/. They replace the rows of the same implementation on the same device and
machine; all other rows stay, so reports of a GPU can be added on another day. Folders may be parts
of one report, each from some of the suite's files. Without a folder, the page is rendered anew from
its rows and data files, and nothing is run.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from suites.claims.tables import verdict_table
from suites.peers.failures import slug
from suites.reporting.folders import REPORTS, gpu_slug
from suites.reporting.provenance import PROVENANCE
from suites.reporting.tables import markdown_table

_TEXT = """# Verdicts

<!-- headline -->
{totals}
<!-- /headline -->

The table lists the claims of the correctness suite and their verdicts for each implementation:
`holds` for every problem generated, **fails**, or unsupported. A cell is empty where the claim has
no meaning or was not judged in that run. A claim with several variants (by dtype, for example)
fails if one of them does. Claims that no implementation here supports are left out.

Each failure has a data file. To see it, install torch and the library, copy
[`run.py`](verdicts/run.py) and the data file, and run:

    python run.py NAME.json

It prints what is wrong and ends with exit code 0 if the failure shows. It needs nothing else of
this project.

Where the suite saw a failure that no data file reproduces, the verdict is `not shown`, and nothing
is claimed. There are no data files for RoI pooling or for inputs too large to embed. mmcv is judged
on contiguous operands, except in claims on layouts.

{table}

## Failures

{failures}

## Runs

{origins}

## Provenance

{newest}
"""
_THREADS = "; whether it shows depends on the CPU"


def merge(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The rows of both, new ones in place of old ones of the same implementation."""
    if old.empty:
        return new
    return pd.concat([old[~old["implementation"].isin(new["implementation"])], new])


def read(folder: Path) -> pd.DataFrame:
    """The rows of one report, with a name of the implementation that says where it ran.

    The data file `made` is in the folder; the page stores it under the implementation's name.
    """
    rows = pd.read_csv(folder / "correctness.csv", keep_default_na=False, dtype=str)

    def name(row: pd.Series) -> str:
        backend, _, device = row["target"].rpartition("-")
        version = re.sub(
            r"\+(cpu|cu\d+)$", "", row["version"]
        )  # of one release, whatever it was built for
        place = gpu_slug(row["gpu"]).upper() if device == "cuda" else "CPU"
        return " ".join(word for word in (backend, version, place) if word)

    rows = rows.assign(implementation=rows.apply(name, axis=1), made=rows["script"])
    kept = [
        f"{slug(row['implementation']).lower()}{row['made'].removeprefix(slug(row['target']))}"
        for _, row in rows.iterrows()
    ]
    return rows.assign(
        script=[k if made else "" for k, made in zip(kept, rows["made"], strict=True)]
    )


def text(rows: pd.DataFrame, folder: Path) -> str:
    """The page, from its rows and the folder of data files."""
    shown = (rows["verdict"] != "failed") | (rows["script"] != "")
    rows = rows.assign(verdict=rows["verdict"].where(shown, "not shown"))
    table = verdict_table(rows.assign(target=rows["implementation"]))
    verdicts = table.drop(columns="claim")
    table = table[~verdicts.isin(["", "unsupported"]).all(axis=1)]
    failed = rows[rows["verdict"] == "failed"]
    totals = pd.DataFrame([_total(*group) for group in table.drop(columns="claim").items()])
    kept = ["implementation", *PROVENANCE]
    by_implementation = rows[kept].groupby("implementation", sort=False)
    origins = by_implementation.agg(lambda words: "; ".join(dict.fromkeys(words))).T.rename_axis("")
    newest = rows.sort_values("date").iloc[-1][list(PROVENANCE)].rename_axis("provenance")
    return _TEXT.format(
        totals=markdown_table(totals),
        table=markdown_table(table),
        failures=markdown_table(_failures(failed, folder)) if len(failed) else "None.",
        origins=markdown_table(origins.reset_index()),
        newest=markdown_table(newest.rename("value").reset_index()),
    )


def _failures(failed: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """A row for each failure, with what its data file was seen to show and where."""
    names = [data_file(name) for name in failed["script"]]
    data = [json.loads((folder / name).read_text()) for name in names]
    return pd.DataFrame(
        {
            "implementation": failed["implementation"],
            "claim": failed["claim"],
            "variant": failed["variant"],
            "seen": [d["seen"] + (_THREADS if d["check"] == "threads" else "") for d in data],
            "seen on": [d["seen_on"] for d in data],
            "data file": [f"[data](verdicts/{name})" for name in names],
            "smallest failing problem found": failed["failing"],
        }
    )


def data_file(name: str) -> str:
    """The name of a failure's data file; in old rows it ends as a script's does."""
    return str(Path(name).with_suffix(".json")) if name else ""


def _total(implementation: str, verdicts: pd.Series) -> dict[str, object]:
    """How many claims came to which verdict."""
    return {
        "implementation": implementation,
        "claims that hold": (verdicts == "holds").sum(),
        "that fail": verdicts.str.startswith("**fails").sum(),
        "not shown": (verdicts == "not shown").sum(),
        "unsupported": (verdicts == "unsupported").sum(),
        "not judged": verdicts.isin(["", "skipped"]).sum(),
    }


def write(folders: Sequence[Path], into: Path = REPORTS) -> Path:
    """Add reports, if any, to the page of verdicts, and render it; returns its path."""
    kept, data = into / "verdicts.csv", into / "verdicts"
    rows = pd.DataFrame()
    if kept.is_file():
        rows = pd.read_csv(kept, keep_default_na=False, dtype=str)
    data.mkdir(parents=True, exist_ok=True)
    parts = [read(folder) for folder in folders]
    for folder, part in zip(folders, parts, strict=True):
        for made, name in zip(part.pop("made"), part["script"], strict=True):
            if made:
                shutil.copy(folder / "failures" / made, data / name)
    if parts:
        rows = merge(rows, pd.concat(parts))
        rows.to_csv(kept, index=False)
    for file in data.glob("*.json"):
        if file.name not in set(map(data_file, rows["script"])):
            file.unlink()
    page = into / "verdicts.md"
    page.write_text(text(rows, data))
    return page


def main(words: Sequence[str] | None = None) -> None:
    """Add the named reports to reports/verdicts.md, or render it anew."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.peers.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="*", type=Path, help="written by pytest's --report")
    parser.add_argument("--into", type=Path, default=REPORTS, help="default: reports/")
    options = parser.parse_args(words)
    print(f"wrote {write(options.folders, options.into)}")


if __name__ == "__main__":
    sys.exit(main())
