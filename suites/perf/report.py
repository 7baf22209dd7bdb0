# SPDX-License-Identifier: BSD-3-Clause
"""From rows to the perf report: ratios between equal problems of one run, losses first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from suites.perf import plots, speed_chart
from suites.perf.layers import SETS
from suites.perf.problems import PASSES
from suites.reporting.report import PEER_VERSIONS, provenance, version_of, write_report

# The dtype that a peer without ours is compared in.
_PEER_DTYPE = {"torchvision": {"bf16": "fp16"}, "mmcv": {"bf16": "fp16"}}
PEERS = ("torchvision", "mmcv", "conv2d", "portable")
_PROBLEM = ["set", "layer", "offsets", "pass"]

_METHOD = """\
Times are medians in milliseconds of the device's own clock (events on a GPU), with the caches
flushed before every call; the CSV also has the 20th and 80th percentile, times with warm caches and
the host's clock. `forward` is without a graph, `backward` is of all five gradients, `both` is a
training step's share. A ratio above 1 says that dcnv2 is faster, in the same run. torchvision and
mmcv have no bfloat16: beside our bf16 stands their fp16. fp32 forbids TF32, tf32 allows it.
torchvision runs on contiguous tensors, conv2d on channels_last ones with cuDNN's search.
GB/s count every tensor once for each pass that reads or writes it, TFLOP/s the products alone
(the backward's as two); shares are of a large copy and of a large matrix product in the same run.
Workspace is peak memory beyond operands, results and gradients; on a CPU, of the whole process."""


@dataclass
class Rows:
    """What a run has measured so far."""

    times: list[dict[str, object]] = field(default_factory=list)
    overheads: list[dict[str, object]] = field(default_factory=list)
    steps: list[dict[str, object]] = field(default_factory=list)
    errors: list[dict[str, object]] = field(default_factory=list)
    wrong: set[tuple[str, str, str, str]] = field(default_factory=set)
    ceilings: Callable[[], dict[str, float]] = dict


def compare(times: pd.DataFrame) -> pd.DataFrame:
    """Ours with each peer beside it: `x_<peer>` is peer's time over ours, cold medians.

    Only rows of the same set, layer, offsets and pass meet, in the same dtype or, where the peer
    has none such, in its nearest.
    """
    ours = times[times.implementation == "dcnv2"].copy()
    for peer in PEERS:
        rows = times[times.implementation == peer].set_index([*_PROBLEM, "dtype"])
        dtype = ours.dtype.replace(_PEER_DTYPE.get(peer, {})) if len(ours) else ours.dtype
        keys = pd.MultiIndex.from_frame(ours[_PROBLEM].assign(dtype=dtype))
        found = rows[["cold_p50_ms", "workspace_mib"]].reindex(keys)
        ours[f"{peer}_ms"] = found.cold_p50_ms.to_numpy()
        ours[f"x_{peer}"] = found.cold_p50_ms.to_numpy() / ours.cold_p50_ms.to_numpy()
        ours[f"{peer}_mib"] = found.workspace_mib.to_numpy(dtype=float, na_value=np.nan)
    return ours


def geometric_means(ours: pd.DataFrame) -> pd.DataFrame:
    """A row for each set, dtype, layout and peer: how many times faster than the peer we are."""
    rows = []
    for (group, dtype, layout), part in ours.groupby(["set", "dtype", "layout"], sort=False):
        for peer in PEERS:
            means = {
                passes: _geometric_mean(part.loc[part["pass"] == passes, f"x_{peer}"])
                for passes in PASSES
            }
            if not any(mean == mean for mean in means.values()):
                continue
            against = f"{peer} {_PEER_DTYPE.get(peer, {}).get(dtype, dtype)}"
            row = {"layers": group, "dcnv2": f"{dtype} {layout}", "against": against} | means
            row["workspace"] = _workspace_share(part, peer)
            rows.append(row)
    table = pd.DataFrame(rows)
    if table.empty or table.workspace.notna().any():
        return table
    return table.drop(columns="workspace")


def _geometric_mean(ratios: pd.Series) -> float:
    ratios = ratios.dropna()
    return float(np.exp(np.log(ratios).mean())) if len(ratios) else float("nan")


def _workspace_share(part: pd.DataFrame, peer: str) -> float:
    """Our workspace over the peer's, summed over the passes 'both' of all layers that both ran."""
    both = part[(part["pass"] == "both") & part[f"{peer}_mib"].notna()]
    theirs = both[f"{peer}_mib"].sum()
    return float(both.workspace_mib.astype(float).sum() / theirs) if theirs else float("nan")


def losses(ours: pd.DataFrame) -> pd.DataFrame:
    """Rows in which torchvision or mmcv is faster, the worst first."""
    ratios = ours[["x_torchvision", "x_mmcv"]].min(axis=1)
    worst_first = ours.assign(worst=ratios)[ratios < 1].sort_values("worst")
    return _shown(worst_first)


def _shown(ours: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "layer": "layer",
        "offsets": "offsets",
        "dtype": "dtype",
        "layout": "layout",
        "pass": "pass",
        "cold_p50_ms": "ms",
        "warm_p50_ms": "warm ms",
        **{f"{peer}_ms": f"{peer} ms" for peer in PEERS},
        **{f"x_{peer}": f"x {peer}" for peer in PEERS},
        "bandwidth_share": "of copy",
        "matmul_share": "of matmul",
        "workspace_mib": "MiB",
        "torchvision_mib": "torchvision MiB",
    }
    return ours.reindex(columns=list(columns)).rename(columns=columns).dropna(axis=1, how="all")


def _ceilings_table(ceilings: dict[str, float]) -> pd.DataFrame:
    rows = [
        {"what": "copy, read and written", "GB/s": rate}
        if name == "copy"
        else {"what": f"matrix product, {name}", "TFLOP/s": rate}
        for name, rate in ceilings.items()
    ]
    return pd.DataFrame(rows)


def _overhead_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows).pivot_table(
        index="implementation", columns="pass", values="host_p50_us", sort=False
    )
    return table.add_suffix(" us").reset_index()


def _growth_table(ours: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Times against a swept quantity, beside the peers'; over threads, how many times one's."""
    rows = ours[ours["set"] == quantity]
    columns = {"value": quantity, "pass": "pass", "cold_p50_ms": "ms"}
    columns |= {f"{peer}_ms": f"{peer} ms" for peer in PEERS}
    columns |= {f"x_{peer}": f"x {peer}" for peer in PEERS}
    table = rows.reindex(columns=list(columns)).rename(columns=columns)
    if quantity == "threads":
        single = rows[rows.value == "1"].set_index("pass").cold_p50_ms
        alone = single.reindex(rows["pass"]).to_numpy()
        table["x one thread"] = alone / rows.cold_p50_ms.to_numpy()
    return table.dropna(axis=1, how="all")


def _adversarial_table(ours: pd.DataFrame) -> pd.DataFrame:
    """Times on offsets made to hurt, and how many times the random ones' each is."""
    keys = ["layer", "dtype", "layout", "pass"]
    table = ours[[*keys, "offsets", "cold_p50_ms", "torchvision_ms"]].copy()
    random = table[table.offsets == "2"].set_index(keys).cold_p50_ms
    wanted = pd.MultiIndex.from_frame(table[keys])
    table["x random"] = table.cold_p50_ms.to_numpy() / random.reindex(wanted).to_numpy()
    table = table.rename(columns={"cold_p50_ms": "ms", "torchvision_ms": "torchvision ms"})
    return table.dropna(axis=1, how="all")


def _steps_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Whole training steps, and how many times the plain detector's each is."""
    table = pd.DataFrame(rows)[["operator", "config", "batch", "input", "p50_ms"]]
    plain = table.loc[table.operator == "conv2d", "p50_ms"]
    if len(plain):
        table["x conv2d"] = table.p50_ms / plain.iloc[0]
    return table.rename(columns={"p50_ms": "ms"})


def _pools_table(pools: pd.DataFrame) -> pd.DataFrame:
    """Times side by side. torchvision's roi_align, without offsets, is the limit."""
    keys = ["layer", "dtype", "pass"]
    table = pools.pivot_table(
        index=keys, columns="implementation", values="cold_p50_ms", sort=False
    )
    table = table.add_suffix(" ms").reset_index()
    if "workspace_mib" in pools and pools.workspace_mib.notna().any():
        ours = pools[pools.implementation == "dcnv2"].set_index(keys).workspace_mib
        table["MiB"] = ours.reindex(pd.MultiIndex.from_frame(table[keys])).to_numpy()
    return table


def write(rows: Rows, directory: Path) -> Path:
    """Write perf.csv, perf.md and their pictures; return the Markdown file."""
    directory.mkdir(parents=True, exist_ok=True)
    times = pd.DataFrame(rows.times)
    ours = compare(times)
    layers = ours[ours["set"].isin(SETS)]
    headline = geometric_means(layers)
    lost = losses(ours)
    sections: dict[str, pd.DataFrame | str] = {
        "Where we lose": lost if len(lost) else "Nowhere, in this run.",
        "How it was measured": _METHOD,
    }
    for group, part in layers.groupby("set", sort=False):
        sections[f"Layers: {group}"] = _shown(part)
    for quantity in ("channels", "pixels", "batch", "threads"):
        if (ours["set"] == quantity).any():
            sections[f"Cost against {quantity}"] = _growth_table(ours, quantity)
    adversarial = ours[ours["set"] == "adversarial"]
    if len(adversarial):
        sections["Offsets made to hurt"] = _adversarial_table(adversarial)
    pools = times[times["set"] == "pools"]
    if len(pools):
        sections["RoI pooling"] = _pools_table(pools)
    if rows.steps:
        sections["A whole training step"] = _steps_table(rows.steps)
    if rows.overheads:
        sections["What an eager call keeps the host"] = _overhead_table(rows.overheads)
    if rows.errors:
        sections["Relative error against float64"] = pd.DataFrame(rows.errors)
    sections["Ceilings of this machine"] = _ceilings_table(rows.ceilings())
    measured = set(times.implementation)
    versions = {peer: version_of(peer) for peer in PEER_VERSIONS if peer in measured}
    origin = provenance() | versions
    pictures = [
        *speed_chart.draw_speedups(times, pd.Series(origin), directory / speed_chart.NAME),
        *plots.draw_sweeps(times, directory / "perf_sweeps.png"),
    ]
    return write_report(
        "perf",
        times,
        title="What it costs, and what its peers cost",
        sections=sections,
        headline=headline if len(headline) else None,
        pictures=pictures,
        directory=directory,
        origin=origin,
    )
