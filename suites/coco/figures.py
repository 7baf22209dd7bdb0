# SPDX-License-Identifier: BSD-3-Clause
"""Pictures of the smoke run: learning curves, and a sheet of predictions beside the truth."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image
from torch import Tensor

CURVES = ("loss", "loss_classifier", "loss_box_reg", "loss_mask")
COLOURS = {"plain": "0.4", "dcnv1": "C0", "dcnv2": "C3", "dcnv2_mimic": "C1"}


def draw_curves(metrics: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Draws the loss and its terms over the steps, a line a model.

    Args:
        metrics: `metrics.csv` of each model by name.
        path: PNG to write.
    """
    figure, panels = plt.subplots(
        1, len(CURVES), figsize=(4 * len(CURVES), 3.4), layout="constrained"
    )
    for panel, term in zip(panels, CURVES, strict=True):
        for name, rows in metrics.items():
            panel.plot(rows["step"], rows[term], label=name, color=COLOURS[name], linewidth=1.2)
        panel.set(xlabel="step", title=term, yscale="log")
        panel.grid(True, which="both", alpha=0.3)
    panels[0].legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_sheet(rows: Sequence[tuple[str, Sequence[Tensor]]], path: Path) -> None:
    """Draws a grid of pictures, uint8 [3, H, W], with a titled row for each entry."""
    columns = len(rows[0][1])
    figure, panels = plt.subplots(
        len(rows),
        columns,
        figsize=(2.4 * columns, 2.5 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for line, (title, pictures) in zip(panels, rows, strict=True):
        for panel, picture in zip(line, pictures, strict=True):
            panel.imshow(picture.permute(1, 2, 0).numpy())
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(title)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=110)
    plt.close(figure)
    # Grainy pictures hardly compress; with a palette of 256 colours they take a third.
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)
