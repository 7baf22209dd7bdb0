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
from suites.peers.notes import ABSENT, FAULTS, RENAMED
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

Frameworks other than PyTorch are called with copied arrays, so claims about memory layouts and
autograd are unsupported there; so is what has no gradients, dtype or argument. mmcv is judged on
contiguous operands, except in claims on layouts.

{table}

## Conventions

For whoever moves weights or writes an exporter: what each implementation does where they differ,
found by calls on a few pixels (`suites/peers/conventions.py`). The definition pads with zeros, so
half a pixel outside of an image of ones it has 0.5. A slope at a kink, where the coordinate is
whole, is a convention: left, right or between.

{conventions}

## Worth reporting

{upstream}

## Failures

Each failure has a data file. To see it, install torch and the library, copy
[`run.py`](verdicts/run.py) and the data file, and run:

    python run.py NAME.json

For a framework other than PyTorch, install it and NumPy, copy
[`run_framework.py`](verdicts/run_framework.py), the data file and the folder
`suites/backends/frameworks/adapters`, and run `python run_framework.py NAME.json`.

Both print what is wrong and end with exit code 0 if the failure shows. They need nothing else of
this project. Where the suite saw a failure that no data file reproduces, the verdict is
`not shown`, and nothing is claimed. There are no data files for inputs too large to embed.

{failures}

## Not judged

{absent}

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


def read_csv(path: Path) -> pd.DataFrame:
    """A table of words; empty if there is no such file."""
    return pd.read_csv(path, keep_default_na=False, dtype=str) if path.is_file() else pd.DataFrame()


def read(folder: Path) -> pd.DataFrame:
    """The rows of one report, with a name of the implementation that says where it ran.

    The data file `made` is in the folder; the page stores it under the implementation's name.
    """
    rows = pd.read_csv(folder / "correctness.csv", keep_default_na=False, dtype=str)

    def name(row: pd.Series) -> str:
        backend, _, device = row["target"].rpartition("-")
        backend = backend.partition(".")[0]  # tvdcn.ops:deform_conv2d is of tvdcn
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


def text(rows: pd.DataFrame, answers: pd.DataFrame, folder: Path) -> str:
    """The page, from its rows, the answers on conventions and the folder of data files."""
    rows = rows.assign(claim=rows["claim"].replace(RENAMED))
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
        conventions=_conventions(answers),
        upstream=_upstream(failed, folder),
        failures=_failures(failed, folder),
        absent=markdown_table(pd.DataFrame(ABSENT.items(), columns=["implementation", "why"])),
        origins=markdown_table(origins.reset_index()),
        newest=markdown_table(newest.rename("value").reset_index()),
    )


def _failures(failed: pd.DataFrame, folder: Path) -> str:
    """Tables of the failures of each implementation: what its data files were seen to show."""
    blocks = []
    for implementation, own in failed.groupby("implementation", sort=False):
        data = [_data(name, folder) for name in own["script"]]
        table = pd.DataFrame(
            {
                "claim": own["claim"],
                "variant": own["variant"],
                "seen": [d["seen"] + (_THREADS if d["check"] == "threads" else "") for d in data],
                "seen on": [d["seen_on"] for d in data],
                "data file": [_link(name) for name in own["script"]],
            }
        )
        blocks.append(f"### {implementation}\n\n{markdown_table(table)}")
    return "\n\n".join(blocks) or "None."


def _data(name: str, folder: Path) -> dict:
    return json.loads((folder / data_file(name)).read_text())


def _link(name: str) -> str:
    return f"[data](verdicts/{data_file(name)})"


def _conventions(answers: pd.DataFrame) -> str:
    """A row for each implementation, a column for each question."""
    if answers.empty:
        return "Not asked."
    table = answers.pivot(index="implementation", columns="question", values="answer").fillna("")
    order = list(dict.fromkeys(answers["question"]))
    names = list(dict.fromkeys(answers["implementation"]))
    return markdown_table(table.loc[names, order].reset_index())


def _upstream(failed: pd.DataFrame, folder: Path) -> str:
    """A paragraph on each fault worth reporting whose failure was seen, with its smallest case."""
    blocks = []
    for fault in FAULTS:
        own = failed[
            failed["implementation"].str.startswith(fault.implementation)
            & (failed["claim"] == fault.claim)
            & failed["variant"].str.startswith(fault.variant)
        ]
        for _, row in own.head(1).iterrows():
            seen = _data(row["script"], folder)["seen"]
            blocks.append(
                f"**{row['implementation']}: {fault.title}.** {fault.text} Seen: {seen}. "
                f"Smallest case: {_link(row['script'])}."
            )
    return "\n\n".join(blocks) or "Nothing."


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
    rows, answers = read_csv(kept), read_csv(data / "conventions.csv")
    data.mkdir(parents=True, exist_ok=True)
    parts = [read(folder) for folder in folders]
    for folder, part in zip(folders, parts, strict=True):
        asked = read_csv(folder / "conventions.csv")
        if not asked.empty:
            run = part.iloc[0]
            asked = asked.assign(**run[["implementation", *PROVENANCE]])
            answers = merge(answers, asked)
            answers.to_csv(data / "conventions.csv", index=False)
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
    page.write_text(text(rows, answers, data))
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
