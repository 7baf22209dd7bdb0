# SPDX-License-Identifier: BSD-3-Clause
"""Tables of what a `Recorder` holds: verdicts, error ratios and generated options."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from types import MappingProxyType

import pandas as pd

from suites.claims.coverage import OPTIONS
from suites.claims.recorder import Recorder
from suites.claims.tolerance_plot import RESULTS, plot_error_ratios
from suites.reporting import report
from suites.reporting.folders import REPORTS, gpu_slug
from suites.reporting.interruption import INTERRUPTED
from suites.reporting.pages import fill_page
from suites.reporting.provenance import provenance

PICTURE = "correctness_error_ratios.png"
_PROOF = {  # reports whose headlines say how far a verdict can be trusted
    "mutants": "Mutants of the naive implementations",
    "package_mutants": "Mutants of the package's Python",
    "{place}source_mutants": "Mutants of the library's sources",
    "{place}sanitizers": "The library under sanitizers",
}


def verdicts(
    recorder: Recorder, data_files: Mapping[str, Path | None] = MappingProxyType({})
) -> pd.DataFrame:
    """A row for each claim and target; `data_files` reproduce failures, by test."""
    rows = [
        {
            "claim": case.claim,
            "variant": case.variant,
            "target": case.target,
            "version": case.version,
            "verdict": case.outcome,
            "checked": case.checked,
            "unsupported": sum(case.unsupported.values()),
            "reasons": "; ".join(case.unsupported),
            "failing": repr(case.failing) if case.outcome == "failed" else "",
            "script": path.name if (path := data_files.get(key)) else "",
        }
        for key, case in recorder.cases.items()
    ]
    return pd.DataFrame(rows)


def verdict_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Claims by targets: whether they hold, and how many variants fail."""

    def cell(group: pd.DataFrame) -> str:
        counts = Counter(group["verdict"])
        checked = counts["passed"] + counts["failed"] + counts["not shown"]
        if counts["failed"]:
            return "**fails**" + (f" {counts['failed']} of {checked}" if checked > 1 else "")
        if counts["not shown"]:
            return "not shown"
        if checked:
            return "holds"
        return "unsupported" if counts["unsupported"] else "skipped"

    table = rows.groupby(["claim", "target"], sort=False)[["verdict"]].apply(cell)
    return table.unstack("target", fill_value="").reset_index()


def error_ratio_table(recorder: Recorder) -> pd.DataFrame:
    """The errors of each target in units of the tolerance, by dtype and result."""
    rows = [
        {
            "target": target,
            "operator": op,
            "dtype": dtype,
            "result": result,
            "median": median(ratios),
            "max": max(ratios),
            "results": len(ratios),
        }
        for (target, op, dtype, result), ratios in recorder.error_ratios.items()
    ]
    columns = ["target", "operator", "dtype", "result", "median", "max", "results"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(columns[:4], ignore_index=True)


def option_table(recorder: Recorder) -> pd.DataFrame:
    """How many checked problems had each option."""
    rows = [
        {
            "space": space,
            "option": option,
            "value": name,
            "generated": recorder.generated[space][option, name],
        }
        for space, options in OPTIONS.items()
        for option, names in options.items()
        for name in names
    ]
    return pd.DataFrame(rows)


def summarise(recorder: Recorder) -> list[tuple[str, list[str]]]:
    """Headings and lines for a terminal."""
    rows = verdicts(recorder)
    counts = [
        f"{target}: "
        + ", ".join(f"{n} {what}" for what, n in Counter(group["verdict"]).items())
        + f"; {group['checked'].sum()} problems checked, {group['unsupported'].sum()} unsupported"
        for target, group in rows.groupby("target", sort=False)
    ]
    ratios = error_ratio_table(recorder)
    worst = []
    if len(ratios):
        keys = ["target", "operator", "dtype"]
        best = ratios.groupby(keys).agg({"median": "median", "max": "max"}).reset_index()
        worst = best.to_string(index=False, float_format="%.3f").splitlines()
    return [("claims", counts), ("error in units of the tolerance (1 is allowed)", worst)]


def write_report(
    recorder: Recorder,
    directory: Path,
    data_files: Mapping[str, Path | None] = MappingProxyType({}),
    interrupted: bool = False,
) -> Path:
    """Write correctness.md and correctness.csv.

    Args:
        recorder: What was checked.
        directory: Where to write.
        data_files: Of the failures, by the tests' names.
        interrupted: Whether more was to be checked.

    Returns:
        Path of the Markdown file.
    """
    rows = verdicts(recorder, data_files)
    failing = rows[rows["verdict"] == "failed"]
    ratios = error_ratio_table(recorder)
    pictures = [PICTURE] if len(ratios) and _plot(ratios, directory / PICTURE) else []
    sections = {
        "Verdicts": verdict_table(rows),
        "Error in units of the tolerance": error_ratio_pivot(ratios),
        "Space covered": _covered(recorder),
    }
    origin = provenance()
    sections["How the suite itself was tested"] = _proof(recorder, origin)
    if len(failing):
        columns = ["claim", "variant", "target", "failing", "script"]
        sections["Smallest failing problems"] = failing[columns]
    return report.write_report(
        "correctness",
        rows,
        title="Correctness" + INTERRUPTED * interrupted,
        sections=sections,
        headline=_headline(rows),
        pictures=pictures,
        directory=directory,
        origin=origin,
    )


def _proof(recorder: Recorder, origin: Mapping[str, str]) -> str:
    """Headlines of the reports on the suite, and on this library if it was checked."""
    targets = [case.target for case in recorder.cases.values()]
    ours = any(target.startswith("dcnv2") for target in targets)
    on_gpu = any(target.endswith("-cuda") for target in targets)
    place = f"{gpu_slug(origin['gpu'])}/" if on_gpu else ""
    blocks = [
        f"{title}:\n\n<!-- report: {name.format(place=place)} -->\n<!-- end -->"
        for name, title in (_PROOF if ours else {"mutants": _PROOF["mutants"]}).items()
    ]
    page = REPORTS / place / "correctness.md"  # where the page is kept
    return fill_page("\n\n".join(blocks), page=page)


def error_ratio_pivot(ratios: pd.DataFrame) -> pd.DataFrame:
    """A row for each target, operator and dtype: median and largest ratio of every result."""
    if not len(ratios):
        return ratios
    keys = ["target", "operator", "dtype"]
    cells = ratios.assign(
        ratio=[f"{m:.2g} ... {h:.2g}" for m, h in zip(ratios["median"], ratios["max"], strict=True)]
    )
    table = cells.pivot(index=keys, columns="result", values="ratio").fillna("")
    order = [result for result in RESULTS if result in table.columns]
    worst = ratios.groupby(keys)["max"].max().rename("largest")
    return table[order].join(worst).reset_index()


def _plot(ratios: pd.DataFrame, path: Path) -> bool:
    """Plot the error ratios if matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    return plot_error_ratios(ratios, path).is_file()


def _headline(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "implementation": target,
                "claims": group["claim"].nunique(),
                "their variants that hold": (group["verdict"] == "passed").sum(),
                "that fail": (group["verdict"] == "failed").sum(),
                "unsupported": (group["verdict"] == "unsupported").sum(),
                "skipped": (group["verdict"] == "skipped").sum(),
                "problems checked": group["checked"].sum(),
            }
            for target, group in rows.groupby("target", sort=False)
        ]
    )


def _covered(recorder: Recorder) -> pd.DataFrame:
    table = option_table(recorder)
    rows = [
        {
            "space": space,
            "option": option,
            "generated": ", ".join(
                f"{v}: {n}" for v, n in zip(g["value"], g["generated"], strict=True)
            ),
        }
        for (space, option), g in table.groupby(["space", "option"], sort=False)
    ]
    return pd.DataFrame(rows)
