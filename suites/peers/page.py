# SPDX-License-Identifier: BSD-3-Clause
"""One page of verdicts on implementations, from reports of the correctness suite.

    pytest suites/correctness --backend torchvision --device cpu --report out
    python -m suites.peers.page out

takes the rows of out/correctness.csv and the scripts of out/failures into reports/verdicts.md, .csv
and reports/verdicts/. Rows of an implementation on a device and machine that are there already are
replaced, all others stay: reports of a GPU can be added on another day. Folders may be parts of one
report, each of some of the suite's files.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from suites.claims.tables import verdict_table
from suites.peers.repro_scripts import slug
from suites.reporting.report import PROVENANCE, REPORTS, gpu_slug, markdown_table

_TEXT = """# Verdicts

<!-- headline -->
{totals}
<!-- /headline -->

Claims of the correctness suite by implementation: `holds` for every problem drawn, **fails**,
unsupported, or empty where the claim has no meaning or was not judged in that run. A claim of which
there are several variants (by dtype, say) fails if one does. A failure is backed by a script below
that needs torch and the implementation alone and ends with exit code 0 if it is still there. Where
the suite saw one that no script repeats by itself, the verdict is `not shown`, and nothing is
claimed: of poolings there are no scripts, nor of what takes too many numbers for one. Left out are
claims that no implementation here supports. mmcv is judged on contiguous operands, except in claims
on layouts.

{table}

## Failures

{failures}

## Where from

{origins}

## Provenance

{newest}
"""


def merge(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The rows of both, new ones in place of old ones of the same implementation."""
    if old.empty:
        return new
    return pd.concat([old[~old["implementation"].isin(new["implementation"])], new])


def read(folder: Path) -> pd.DataFrame:
    """The rows of one report, with a name of the implementation that says where it ran.

    The `made` script is one of the folder's; the page keeps it by the implementation's name.
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


def text(rows: pd.DataFrame, scripts: Path) -> str:
    """The page."""
    shown = (rows["verdict"] != "failed") | (rows["script"] != "")
    rows = rows.assign(verdict=rows["verdict"].where(shown, "not shown"))
    table = verdict_table(rows.assign(target=rows["implementation"]))
    verdicts = table.drop(columns="claim")
    table = table[~verdicts.isin(["", "unsupported"]).all(axis=1)]
    failed = rows[rows["verdict"] == "failed"]
    failures = failed.assign(
        script=[f"[script](verdicts/{name})" if name else "" for name in failed["script"]],
        seen=[_seen(scripts / name) if name else "" for name in failed["script"]],
    )
    totals = pd.DataFrame([_total(*group) for group in table.drop(columns="claim").items()])
    columns = ["implementation", "claim", "variant", "seen", "script", "failing"]
    failures = failures[columns].rename(columns={"failing": "smallest failing problem found"})
    kept = ["implementation", *PROVENANCE]
    by_implementation = rows[kept].groupby("implementation", sort=False)
    origins = by_implementation.agg(lambda words: "; ".join(dict.fromkeys(words))).T.rename_axis("")
    newest = rows.sort_values("date").iloc[-1][list(PROVENANCE)].rename_axis("provenance")
    return _TEXT.format(
        totals=markdown_table(totals),
        table=markdown_table(table),
        failures=markdown_table(failures) if len(failed) else "None.",
        origins=markdown_table(origins.reset_index()),
        newest=markdown_table(newest.rename("value").reset_index()),
    )


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


def _seen(script: Path) -> str:
    """What a script says it was seen to show."""
    found = re.search(r"^Seen: (.*)\.$", script.read_text(), flags=re.MULTILINE)
    return found[1] if found else ""


def write(folders: Sequence[Path], into: Path = REPORTS) -> Path:
    """Take reports into the page of verdicts; returns its path."""
    kept = into / "verdicts.csv"
    rows = pd.DataFrame()
    if kept.is_file():
        rows = pd.read_csv(kept, keep_default_na=False, dtype=str)
    scripts = into / "verdicts"
    scripts.mkdir(parents=True, exist_ok=True)
    parts = [read(folder) for folder in folders]
    for folder, part in zip(folders, parts, strict=True):
        for made, name in zip(part.pop("made"), part["script"], strict=True):
            if made:
                shutil.copy(folder / "failures" / made, scripts / name)
    rows = merge(rows, pd.concat(parts))
    for script in scripts.glob("*.py"):
        if script.name not in set(rows["script"]):
            script.unlink()
    rows.to_csv(kept, index=False)
    page = into / "verdicts.md"
    page.write_text(text(rows, scripts))
    return page


def main(words: Sequence[str] | None = None) -> None:
    """Take the named reports into reports/verdicts.md."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.peers.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="made by pytest's --report")
    parser.add_argument("--into", type=Path, default=REPORTS, help="default: reports/")
    options = parser.parse_args(words)
    print(f"wrote {write(options.folders, options.into)}")


if __name__ == "__main__":
    sys.exit(main())
