# SPDX-License-Identifier: BSD-3-Clause
"""A plot of the error ratios: each result's error in units of its tolerance."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

RESULTS = ("output", "grad_input", "grad_offset", "grad_weight", "grad_bias", "grad_mask")
_COLOURS = {"float64": "#4c78a8", "float32": "#54a24b", "float16": "#f58518", "bfloat16": "#b279a2"}
_LEAST = 1e-5  # smaller ratios are plotted here


def plot_error_ratios(ratios: pd.DataFrame, path: Path) -> Path:
    """Plot a table of error ratios, a panel for each target and operator; returns the path.

    Args:
        ratios: columns target, operator, dtype, result, median and max.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    targets, operators = (list(dict.fromkeys(ratios[c])) for c in ("target", "operator"))
    figure = Figure(
        figsize=(max(4.4 * len(operators), 6.4), 2.4 * len(targets) + 1.4),
        layout="constrained",
        dpi=110,
    )
    panels = figure.subplots(len(targets), len(operators), squeeze=False, sharey=True, sharex=True)
    for row, target in zip(panels, targets, strict=True):
        for panel, operator in zip(row, operators, strict=True):
            chosen = (ratios["target"] == target) & (ratios["operator"] == operator)
            _fill(panel, ratios[chosen])
            panel.set_title(f"{target}: {operator}", fontsize=10)
    figure.supylabel("error / tolerance, median to largest", fontsize=10)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _fill(panel, ratios: pd.DataFrame) -> None:
    for step, (dtype, colour) in enumerate(_COLOURS.items()):
        some = ratios[ratios["dtype"] == dtype].set_index("result")
        found = [(x, r) for x, r in enumerate(RESULTS) if r in some.index]
        places = [x + 0.18 * (step - 1.5) for x, _ in found]
        low = [max(some.loc[r, "median"], _LEAST) for _, r in found]
        high = [max(some.loc[r, "max"], _LEAST) for _, r in found]
        panel.vlines(places, low, high, color=colour, linewidth=4, label=dtype)
    panel.axhline(1, color="black", linewidth=1)
    panel.set_yscale("log")
    panel.set_ylim(_LEAST, 3)
    panel.set_xticks(range(len(RESULTS)), RESULTS, rotation=30, ha="right", fontsize=9)
    panel.grid(axis="y", alpha=0.3)
