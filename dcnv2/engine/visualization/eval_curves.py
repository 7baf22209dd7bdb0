# SPDX-License-Identifier: BSD-3-Clause
"""Plots of an evaluation: precision over recall, and precision by object size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

SIZES = {"APs": "small\n< 32²", "APm": "medium", "APl": "large\n≥ 96²"}


def draw_curves(curves: pd.DataFrame, path: Path) -> None:
    """Plots columns `kind`, `iou`, `recall` and `precision`, one line per kind and IoU."""
    figure = Figure(figsize=(5, 4))
    panel = figure.add_axes((0.13, 0.18, 0.84, 0.79))
    for (kind, iou), line in curves.groupby(["kind", "iou"]):
        panel.plot(line["recall"], line["precision"], label=f"{kind}, IoU {iou:g}")
    panel.set(xlabel="recall", ylabel="precision, mean over classes", xlim=(0, 1), ylim=(0, 1.02))
    if len(curves):
        panel.legend()
    figure.savefig(path, dpi=110)


def draw_sizes(numbers: Mapping[str, float], path: Path) -> None:
    """Plots AP of small, medium and large objects for the kinds that `numbers` has."""
    figure = Figure(figsize=(5, 4))
    panel = figure.add_axes((0.13, 0.18, 0.84, 0.79))
    kinds = [kind for kind in ("box", "mask") if f"{kind}_APs" in numbers]
    width = 0.8 / max(len(kinds), 1)
    for index, kind in enumerate(kinds):
        places = [place + index * width for place in range(len(SIZES))]
        panel.bar(places, [numbers[f"{kind}_{size}"] for size in SIZES], width, label=kind)
    panel.set_xticks([place + 0.4 - width / 2 for place in range(len(SIZES))], SIZES.values())
    panel.set(xlabel="object area in square pixels", ylabel="AP", ylim=(0, 1))
    if kinds:
        panel.legend()
    figure.savefig(path, dpi=110)
