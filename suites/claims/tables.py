# SPDX-License-Identifier: BSD-3-Clause
"""Tables of what a `Recorder` holds: verdicts, error ratios and generated options."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType

import pandas as pd

from suites.claims.recorder import Recorder
from suites.claims.tolerance_plot import RESULTS, draw
from suites.mutants import Mutant
from suites.problems.strategies import CONV_OPTIONS, POOL_OPTIONS

PICTURE = "correctness_error_ratios.png"
_PROOF = {  # reports whose headlines say what a verdict is worth; of a device's folder
    "mutants": "Mutants of the naive implementations",
    "package_mutants": "Mutants of the package's Python",
    "{place}source_mutants": "Mutants of the library's sources",
    "{place}sanitizers": "The library under sanitizers",
}


def verdicts(
    recorder: Recorder, scripts: Mapping[str, Path | None] = MappingProxyType({})
) -> pd.DataFrame:
    """A row for each claim and target; `scripts` by test show failures by themselves."""
    rows = [
        {
            "claim": case.claim,
            "variant": case.variant,
            "target": case.target,
            "version": case.version,
            "verdict": case.outcome,
            "judged": case.judged,
            "unsupported": sum(case.unsupported.values()),
            "reasons": "; ".join(case.unsupported),
            "failing": repr(case.failing) if case.outcome == "failed" else "",
            "script": path.name if (path := scripts.get(key)) else "",
        }
        for key, case in recorder.cases.items()
    ]
    return pd.DataFrame(rows)


def verdict_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Claims by targets: how many problems held, or what else came out."""

    def cell(group: pd.DataFrame) -> str:
        counts = Counter(group["verdict"])
        judged = counts["passed"] + counts["failed"] + counts["not shown"]
        if counts["failed"]:
            return "**fails**" + (f" {counts['failed']} of {judged}" if judged > 1 else "")
        if counts["not shown"]:
            return "not shown"
        if judged:
            return "holds"
        return "unsupported" if counts["unsupported"] else "skipped"

    table = rows.groupby(["claim", "target"], sort=False)[["verdict"]].apply(cell)
    return table.unstack("target", fill_value="").reset_index()


def error_ratio_table(recorder: Recorder) -> pd.DataFrame:
    """The share of the price that each target spent, by dtype and result."""
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
    """How often each option was drawn and judged."""
    rows = [
        {
            "space": space,
            "option": option,
            "value": name,
            "generated": recorder.generated[space][option, name],
        }
        for space, options in (("convolution", CONV_OPTIONS), ("pooling", POOL_OPTIONS))
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
        + f"; {group['judged'].sum()} problems judged, {group['unsupported'].sum()} unsupported"
        for target, group in rows.groupby("target", sort=False)
    ]
    ratios = error_ratio_table(recorder)
    spent = []
    if len(ratios):
        keys = ["target", "operator", "dtype"]
        best = ratios.groupby(keys).agg({"median": "median", "max": "max"}).reset_index()
        spent = best.to_string(index=False, float_format="%.3f").splitlines()
    drawn = [
        f"{space}, {option}: "
        + "  ".join(f"{v} {n}" for v, n in zip(g["value"], g["generated"], strict=True))
        for (space, option), g in option_table(recorder).groupby(["space", "option"], sort=False)
    ]
    return [
        ("claims", counts),
        ("share of the price spent (1 is allowed)", spent),
        ("options drawn", drawn),
    ]


def write_report(
    recorder: Recorder, directory: Path, scripts: Mapping[str, Path | None] = MappingProxyType({})
) -> Path:
    """Write correctness.md and correctness.csv.

    Returns:
        Path of the Markdown file.
    """
    from suites.reporting import report

    rows = verdicts(recorder, scripts)
    failing = rows[rows["verdict"] == "failed"]
    ratios = error_ratio_table(recorder)
    pictures = [PICTURE] if len(ratios) and _draw(ratios, directory / PICTURE) else []
    sections = {
        "Verdicts": verdict_table(rows),
        "Share of the price spent": error_ratio_pivot(ratios),
        "Space covered": _covered(recorder),
    }
    origin = report.provenance()
    sections["What the suite itself was held to"] = _proof(recorder, origin)
    if len(failing):
        columns = ["claim", "variant", "target", "failing", "script"]
        sections["Smallest failing problems"] = failing[columns]
    return report.write_report(
        "correctness",
        rows,
        title="Correctness",
        sections=sections,
        headline=_headline(rows),
        pictures=pictures,
        directory=directory,
        origin=origin,
    )


def _proof(recorder: Recorder, origin: Mapping[str, str]) -> str:
    """Headlines of the suite's own reports, and of those on this library if it was judged."""
    from suites.reporting.folders import REPORTS, gpu_slug
    from suites.reporting.pages import fill_page

    targets = [case.target for case in recorder.cases.values()]
    ours = any(target.startswith("dcnv2") for target in targets)
    on_gpu = any(target.endswith("-cuda") for target in targets)
    place = f"{gpu_slug(origin['gpu'])}/" if on_gpu else ""
    blocks = [
        f"{title}:\n\n<!-- report: {name.format(place=place)} -->\n<!-- end -->"
        for name, title in (_PROOF if ours else {"mutants": _PROOF["mutants"]}).items()
    ]
    page = REPORTS / place / "correctness.md"  # where such a page is kept
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


def _draw(ratios: pd.DataFrame, path: Path) -> bool:
    """Draw the ratios, where there is matplotlib to draw with."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    return draw(ratios, path).is_file()


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
                "problems judged": group["judged"].sum(),
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


# ---- mutants


def mutant_rows(recorder: Recorder, mutants: Sequence[Mutant]) -> pd.DataFrame:
    """A row for each mutant, with the claims that detect it."""
    rows = []
    for mutant in mutants:
        kills = recorder.kills[mutant.key]
        claims = list(dict.fromkeys(claim for claim, _ in kills))
        rows.append(
            {
                "operator": mutant.op,
                "mutant": mutant.name,
                "seen": mutant.origin,
                "outcome": "killed" if kills else "**survived**",
                "claims": len(claims),
                "killed by": "; ".join(claims),
                "message": kills[0][1].splitlines()[0] if kills and kills[0][1] else "",
            }
        )
    return pd.DataFrame(rows)


def claim_rows(recorder: Recorder, mutants: Sequence[Mutant]) -> pd.DataFrame:
    """How many mutants each claim detects, and how many only it detects."""
    found = {m.key: {claim for claim, _ in recorder.kills[m.key]} for m in mutants}
    claims = sorted({case.claim for case in recorder.cases.values()})
    rows = [
        {
            "claim": claim,
            "kills": sum(claim in detecting for detecting in found.values()),
            "alone": sum(detecting == {claim} for detecting in found.values()),
        }
        for claim in claims
    ]
    return pd.DataFrame(rows).sort_values(["kills", "claim"], ascending=[False, True])


def summarise_mutants(recorder: Recorder, mutants: Sequence[Mutant]) -> list[tuple[str, list[str]]]:
    """Headings and lines for a terminal."""
    rows = mutant_rows(recorder, mutants)
    killed = (rows["outcome"] == "killed").sum()
    lines = [
        f"{row['operator']}: {row['mutant']}: {row['outcome']} by {row['killed by'] or 'nothing'}"
        for _, row in rows.iterrows()
    ]
    return [("mutants", [*lines, f"{killed} of {len(rows)} killed"])]


def write_mutants(recorder: Recorder, mutants: Sequence[Mutant], directory: Path) -> Path:
    """Write mutants.md and mutants.csv, of a run that stopped once a claim detected a mutant.

    Returns:
        Path of the Markdown file.
    """
    from suites.reporting import report

    rows = mutant_rows(recorder, mutants)
    total = pd.DataFrame(
        [
            {"operator": op, "mutants": len(group), "killed": (group["outcome"] == "killed").sum()}
            for op, group in rows.groupby("operator", sort=False)
        ]
    )
    return report.write_report(
        "mutants",
        rows.drop(columns=["claims"]),
        title="Mutants",
        sections={"Mutants": rows.drop(columns=["message", "claims"])},
        headline=total,
        directory=directory,
    )


def write_claims(
    recorder: Recorder, mutants: Sequence[Mutant], profile: str, directory: Path
) -> Path:
    """Write mutants_by_claim.md and .csv, of a run in which every claim ran on every mutant.

    Returns:
        Path of the Markdown file.
    """
    from suites.reporting import report

    rows = mutant_rows(recorder, mutants)
    claims = claim_rows(recorder, mutants)
    found = pd.DataFrame(
        [
            {
                "profile": profile,
                "claims that detect a mutant": (claims["kills"] > 0).sum(),
                "mutants detected": (rows["claims"] > 0).sum(),
                "by one claim alone": (rows["claims"] == 1).sum(),
                "by five or more": (rows["claims"] >= 5).sum(),
            }
        ]
    )
    return report.write_report(
        "mutants_by_claim",
        rows.drop(columns=["outcome", "message"]),
        title="Which claims detect which mutants",
        sections={"Claims": claims, "Mutants": rows.drop(columns=["seen", "outcome", "message"])},
        headline=found,
        directory=directory,
    )
