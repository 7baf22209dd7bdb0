# SPDX-License-Identifier: BSD-3-Clause
"""Ratios between equal problems of one run: the peers' times over ours, and their means."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from suites.perf.problems import LAYOUTS, PASSES
from suites.reporting.tables import format_number

PEERS = ("torchvision", "mmcv", "onnxruntime", "openvino", "conv2d", "roi_align", "portable")
_DEFORMABLE = [f"x_{peer}" for peer in PEERS if peer not in ("conv2d", "roi_align")]
# The dtype that a peer without ours is compared in.
_PEER_DTYPE = {peer: {"bf16": "fp16"} for peer in ("torchvision", "mmcv", "roi_align")}
_PROBLEM = ["set", "layer", "offsets", "pass"]
# Repetitions that differ by more than this share of the median mark a figure.
STEADY = 0.1


def compare_with_peers(times: pd.DataFrame) -> pd.DataFrame:
    """Our rows with columns for each peer: `x_<peer>` is the peer's time over ours, cold medians.

    Rows match if set, layer, offsets and pass are equal and the dtype is the same or, where the
    peer lacks it, the nearest. `spread` is the spread of our time, `<peer>_spread` of the peer's.
    """
    times = times.assign(spread=spread(times))
    ours = times[times.implementation == "dcnv2"].copy()
    for peer in PEERS:
        rows = times[times.implementation == peer].set_index([*_PROBLEM, "dtype"])
        dtype = ours.dtype.replace(_PEER_DTYPE.get(peer, {})) if len(ours) else ours.dtype
        keys = pd.MultiIndex.from_frame(ours[_PROBLEM].assign(dtype=dtype))
        found = rows[["cold_p50_ms", "workspace_mib", "spread"]].reindex(keys)
        ours[f"{peer}_ms"] = found.cold_p50_ms.to_numpy()
        ours[f"x_{peer}"] = found.cold_p50_ms.to_numpy() / ours.cold_p50_ms.to_numpy()
        ours[f"{peer}_mib"] = found.workspace_mib.to_numpy(dtype=float, na_value=np.nan)
        ours[f"{peer}_spread"] = found.spread.to_numpy()
    return ours


def spread(times: pd.DataFrame) -> pd.Series:
    """How far repetitions are apart: from the 20th to the 80th percentile, over the median."""
    return (times.cold_p80_ms - times.cold_p20_ms) / times.cold_p50_ms


def figure(value: float, spread: float) -> float | str:
    """A number for a table, marked with ≈ if its repetitions differ too much."""
    return f"≈{format_number(value)}" if spread > STEADY and value == value else value


def geometric_mean(ratios: pd.Series) -> float:
    """Geometric mean without missing values; NaN if there are none."""
    ratios = ratios.dropna()
    return float(np.exp(np.log(ratios).mean())) if len(ratios) else float("nan")


def geometric_means(ours: pd.DataFrame) -> pd.DataFrame:
    """The headline: a row for each set, dtype, layout and peer; PyTorch's default layout first.

    Figures say how many times as fast as the peer we are. `spread` is the largest of all times
    behind a row.
    """
    order = ours.layout.map(list(LAYOUTS).index)
    ours = ours.assign(order=order).sort_values("order", kind="stable")
    rows = []
    for (group, layout, dtype), part in ours.groupby(["set", "layout", "dtype"], sort=False):
        for peer in PEERS:
            if part[f"x_{peer}"].isna().all():
                continue
            met = part[part[f"x_{peer}"].notna()].copy()
            met["spread"] = met[["spread", f"{peer}_spread"]].max(axis=1)
            rows.append(
                {
                    "layers": _count(met.layer.nunique(), str(group)),
                    "dcnv2": f"{dtype} {layout}",
                    "compared with": f"{peer} {_PEER_DTYPE.get(peer, {}).get(dtype, dtype)}",
                    **_means_by_pass(met, peer),
                    "spread": f"{met.spread.max():.0%}",
                    "workspace": _workspace_share(part, peer),
                }
            )
    table = pd.DataFrame(rows)
    if table.empty or table.workspace.notna().any():
        return table
    return table.drop(columns="workspace")


def _count(layers: int, group: str) -> str:
    count = f"{layers} layer{'s' if layers > 1 else ''}"
    return count if group in ("eight", "cpu") else f"{count} ({group})"


def _means_by_pass(met: pd.DataFrame, peer: str) -> dict[str, float | str]:
    means = {}
    for passes in PASSES:
        of_pass = met[met["pass"] == passes]
        means[passes] = figure(geometric_mean(of_pass[f"x_{peer}"]), of_pass.spread.max())
    return means


def _workspace_share(part: pd.DataFrame, peer: str) -> float:
    """Our workspace over the peer's, summed over the passes 'both' of all layers that both ran."""
    both = part[(part["pass"] == "both") & part[f"{peer}_mib"].notna()]
    theirs = both[f"{peer}_mib"].sum()
    return float(both.workspace_mib.astype(float).sum() / theirs) if theirs else float("nan")


def slower_than(ours: pd.DataFrame) -> pd.DataFrame:
    """A row for each peer of the run: in how many problems we are slower, and where it is worst."""
    rows = []
    for peer in PEERS:
        met = ours[ours[f"x_{peer}"].notna()]
        if met.empty:
            continue
        worst = met.loc[met[f"x_{peer}"].idxmin()]
        place = worst[["layer", "offsets", "dtype", "layout", "pass"]]  # .dtype is the Series' own
        rows.append(
            {
                "compared with": peer,
                "problems": len(met),
                "dcnv2 is slower in": int((met[f"x_{peer}"] < 1).sum()),
                "smallest ratio": float(worst[f"x_{peer}"]),
                "at layer, offsets, dtype, layout, pass": ", ".join(map(str, place)),
            }
        )
    return pd.DataFrame(rows)


def host_ratios(overheads: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """A row for each implementation but ours: its host time of an eager call over ours, by pass."""
    table = pd.DataFrame(overheads)
    if table.empty or "dcnv2" not in set(table["implementation"]):
        return pd.DataFrame()
    times = table.pivot_table(
        index="implementation", columns="pass", values="host_p50_us", sort=False
    )
    ratios = (times / times.loc["dcnv2"]).drop(index="dcnv2")
    return ratios.rename_axis("compared with").reset_index()


def losses(ours: pd.DataFrame) -> pd.DataFrame:
    """Rows in which another deformable convolution or pooling is faster, the worst first."""
    ratios = ours[_DEFORMABLE].min(axis=1)
    return ours.assign(worst=ratios)[ratios < 1].sort_values("worst")
