# SPDX-License-Identifier: BSD-3-Clause
"""Plots of an evaluation: precision over recall, and precision by object size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcnv2.data.whole_files import replacing

SIZES = {"APs": "small\n< 32²", "APm": "medium", "APl": "large\n≥ 96²"}


def draw_curves(curves: pd.DataFrame, path: Path) -> None:
    """Plots columns `kind`, `iou`, `recall` and `precision`, one line per kind and IoU."""
    with _panel(path) as panel:
        for (kind, iou), line in curves.groupby(["kind", "iou"]):
            panel.plot(line["recall"], line["precision"], label=f"{kind}, IoU {iou:g}")
        panel.set(
            xlabel="recall", ylabel="precision, mean over classes", xlim=(0, 1), ylim=(0, 1.02)
        )


def draw_sizes(numbers: Mapping[str, float], path: Path) -> None:
    """Plots AP of small, medium and large objects for the kinds that `numbers` has."""
    kinds = [kind for kind in ("box", "mask") if f"{kind}_APs" in numbers]
    width = 0.8 / max(len(kinds), 1)
    with _panel(path) as panel:
        for index, kind in enumerate(kinds):
            places = [place + index * width for place in range(len(SIZES))]
            panel.bar(places, [numbers[f"{kind}_{size}"] for size in SIZES], width, label=kind)
        panel.set_xticks([place + 0.4 - width / 2 for place in range(len(SIZES))], SIZES.values())
        panel.set(xlabel="object area in square pixels", ylabel="AP", ylim=(0, 1))


@contextlib.contextmanager
def _panel(path: Path) -> Iterator[Axes]:
    """Yields axes to draw on, and writes them with a legend of what was drawn."""
    figure = Figure(figsize=(5, 4))
    panel = figure.add_axes((0.13, 0.18, 0.84, 0.79))
    yield panel
    if panel.get_legend_handles_labels()[0]:
        panel.legend()
    with replacing(path) as aside:
        figure.savefig(aside, dpi=110)
