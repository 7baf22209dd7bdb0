# SPDX-License-Identifier: BSD-3-Clause
"""The tables of the report on whole steps."""

from __future__ import annotations

from typing import Any

import pandas as pd

MEASURED = "measured"
"""Status of a case that has times."""


def config_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per configuration, with columns for each batch size.

    A case that was not measured has the reason in place of its time.
    """
    batches = rows["batch"].unique().tolist()
    labels = {"p50_ms": "step ms", "images_s": "images/s", "peak_GiB": "GiB"}
    lines = []
    for config, of_config in rows.groupby("config", sort=False):
        line: dict[str, Any] = {"config": config, "parameters_M": of_config["parameters_M"].max()}
        line |= dict.fromkeys(f"{label}, batch {b}" for label in labels.values() for b in batches)
        for row in of_config.to_dict("records"):
            line |= {f"{label}, batch {row['batch']}": row[key] for key, label in labels.items()}
            if row["status"] != MEASURED:
                line[f"step ms, batch {row['batch']}"] = row["status"].partition(":")[0]
        lines.append(line)
    return pd.DataFrame(lines).dropna(axis=1, how="all")


def operator_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per operator, with the ratio of its step to that of regular convolutions."""
    rows = rows[rows["status"] == MEASURED]
    table = rows[["operator", "batch", "input", "p50_ms", "images_s", "peak_GiB"]].copy()
    plain = table.loc[table["operator"] == "conv2d", "p50_ms"]
    if len(plain):
        table["times conv2d"] = table["p50_ms"] / plain.iloc[0]
    return table.rename(columns={"p50_ms": "step ms", "images_s": "images/s", "peak_GiB": "GiB"})


def detector_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per detector and batch size, with its speed as a multiple of torchvision's."""
    rows = rows[rows["status"] == MEASURED]
    shown = {
        "config": "detector",
        "batch": "batch",
        "input": "input",
        "p50_ms": "step ms",
        "images_s": "images/s",
        "peak_GiB": "GiB",
        "gpu_share": "GPU at work",
        "launches": "launches",
        "waits": "waits",
    }
    table = rows[[name for name in shown if name in rows]].copy()
    peer = rows[rows["operator"] == "torchvision"].set_index("batch")["images_s"]
    table["times torchvision"] = table["images_s"] / table["batch"].map(peer)
    return table.rename(columns=shown).dropna(axis=1, how="all")
