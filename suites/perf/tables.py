# SPDX-License-Identifier: BSD-3-Clause
"""The tables of the perf report."""

import pandas as pd

from suites.perf.ratios import PEERS, figure


def layers_table(ours: pd.DataFrame) -> pd.DataFrame:
    """Our rows with the peers' times and ratios; unsteady figures are marked."""
    shown = ours.copy()
    shown["cold_p50_ms"] = _marked(ours.cold_p50_ms, ours.spread)
    shown["spread"] = [f"{value:.0%}" if value == value else None for value in ours.spread]
    for peer in PEERS:
        theirs = ours[f"{peer}_spread"]
        either = pd.concat([theirs, ours.spread], axis=1).max(axis=1)
        shown[f"{peer}_ms"] = _marked(ours[f"{peer}_ms"], theirs)
        shown[f"x_{peer}"] = _marked(ours[f"x_{peer}"], either)
    columns = {
        "layer": "layer",
        "offsets": "offsets",
        "dtype": "dtype",
        "layout": "layout",
        "pass": "pass",
        "cold_p50_ms": "ms",
        "spread": "spread",
        "warm_p50_ms": "warm ms",
        **{f"{peer}_ms": f"{peer} ms" for peer in PEERS},
        **{f"x_{peer}": f"x {peer}" for peer in PEERS},
        "bandwidth_share": "of copy",
        "matmul_share": "of matmul",
        "workspace_mib": "MiB",
        "torchvision_mib": "torchvision MiB",
    }
    return shown.reindex(columns=list(columns)).rename(columns=columns).dropna(axis=1, how="all")


def _marked(values: pd.Series, spreads: pd.Series) -> list[float | str]:
    return [figure(value, spread) for value, spread in zip(values, spreads, strict=True)]


def ceilings_table(ceilings: dict[str, float]) -> pd.DataFrame:
    """The machine's limits, as `Ceilings` measured them."""
    rows = [
        {"limit": "copy, bytes read and written", "GB/s": rate}
        if name == "copy"
        else {"limit": f"matrix product, {name}", "TFLOP/s": rate}
        for name, rate in ceilings.items()
    ]
    return pd.DataFrame(rows)


def overhead_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Host time per call in microseconds, a column for each pass."""
    table = pd.DataFrame(rows).pivot_table(
        index="implementation", columns="pass", values="host_p50_us", sort=False
    )
    return table.add_suffix(" us").reset_index()


def sweep_table(ours: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Times against a swept quantity; for threads also the speed-up over one thread."""
    rows = ours[ours["set"] == quantity]
    columns = {"value": quantity, "pass": "pass", "cold_p50_ms": "ms"}
    columns |= {f"{peer}_ms": f"{peer} ms" for peer in PEERS}
    columns |= {f"x_{peer}": f"x {peer}" for peer in PEERS}
    table = rows.reindex(columns=list(columns)).rename(columns=columns)
    if quantity == "threads":
        single = rows[rows.value == "1"].set_index("pass").cold_p50_ms
        table["x one thread"] = (
            single.reindex(rows["pass"]).to_numpy() / rows.cold_p50_ms.to_numpy()
        )
    return table.dropna(axis=1, how="all")


def adversarial_table(ours: pd.DataFrame) -> pd.DataFrame:
    """Times on adversarial offsets, and their ratio to the time on random offsets."""
    keys = ["layer", "dtype", "layout", "pass"]
    table = ours[[*keys, "offsets", "cold_p50_ms", "torchvision_ms"]].copy()
    random = table[table.offsets == "2"].set_index(keys).cold_p50_ms
    wanted = pd.MultiIndex.from_frame(table[keys])
    table["x random"] = table.cold_p50_ms.to_numpy() / random.reindex(wanted).to_numpy()
    table = table.rename(columns={"cold_p50_ms": "ms", "torchvision_ms": "torchvision ms"})
    return table.dropna(axis=1, how="all")


def steps_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Whole training steps, and their ratio to the step with regular convolutions."""
    table = pd.DataFrame(rows)[["operator", "config", "batch", "input", "p50_ms"]]
    plain = table.loc[table.operator == "conv2d", "p50_ms"]
    if len(plain):
        table["x conv2d"] = table.p50_ms / plain.iloc[0]
    return table.rename(columns={"p50_ms": "ms"})


def times_table(times: pd.DataFrame) -> pd.DataFrame:
    """Times of all implementations, a column each."""
    keys = ["layer", "dtype", "pass"]
    table = times.pivot_table(
        index=keys, columns="implementation", values="cold_p50_ms", sort=False
    )
    table = table.add_suffix(" ms").reset_index()
    if "workspace_mib" in times and times.workspace_mib.notna().any():
        ours = times[times.implementation == "dcnv2"].set_index(keys).workspace_mib
        table["MiB"] = ours.reindex(pd.MultiIndex.from_frame(table[keys])).to_numpy()
    return table
