# SPDX-License-Identifier: BSD-3-Clause
"""A plot of a confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from dcnv2.data.whole_files import replacing
from dcnv2.engine.visualization.fonts import label

# Number of classes up to which cells have numbers and sides have names.
MAX_LABELLED = 30


def draw_confusion(table: pd.DataFrame, path: Path) -> None:
    """Plots numbers of objects by true class (rows) and detected class (columns).

    Colours are shares of each row.

    Args:
        table: as `Errors.confusion`; the background comes last.
        path: PNG to write, completely or not at all.
    """
    counts = table.to_numpy(float)
    side = min(3 + 0.4 * len(counts), 12)
    figure = Figure(figsize=(side, side), layout="constrained")
    panel = figure.add_subplot()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    panel.set(xlabel="detected", ylabel="true")
    if len(counts) <= MAX_LABELLED:
        _write_names(panel, [str(name) for name in table])
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                panel.text(column, row, f"{count:.0f}", color=colour, ha="center", va="center")
    with replacing(path) as aside:
        figure.savefig(aside, dpi=110, format="png")


def _write_names(panel: Axes, names: list[str]) -> None:
    """Writes the names of the classes along both sides, each in a font that has its script."""
    texts, fonts = zip(*(label(name, number) for number, name in enumerate(names, 1)), strict=True)
    panel.set_xticks(range(len(names)), texts, rotation=90, parse_math=False)
    panel.set_yticks(range(len(names)), texts, parse_math=False)
    for axis in (panel.get_xticklabels(), panel.get_yticklabels()):
        for tick, font in zip(axis, fonts, strict=True):
            if font is not None:
                tick.set_fontproperties(FontProperties(fname=font))
