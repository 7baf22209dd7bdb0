# SPDX-License-Identifier: BSD-3-Clause
"""Pictures of the training suite: learning curves, and predictions next to the ground truth."""

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
    """Draw the loss and its terms over the steps, a line per model.

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
    """Draw a grid of pictures, uint8 [3, H, W], with a titled row for each entry."""
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
    buffer = BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    # Noisy pictures hardly compress; a palette of 256 colours takes a third of the space.
    Image.open(buffer).convert("RGB").quantize(256).save(path, optimize=True)


def draw_resumed(whole: pd.DataFrame, cut: pd.DataFrame, stopped: int, path: Path) -> None:
    """Draw the loss of an interrupted and resumed run over that of an uninterrupted one.

    Args:
        whole: `metrics.csv` of the uninterrupted run.
        cut: `metrics.csv` of the interrupted run.
        stopped: Last step before the interruption.
        path: PNG to write.
    """
    figure, panel = plt.subplots(figsize=(7, 3.4), layout="constrained")
    panel.plot(whole["step"], whole["loss"], label="uninterrupted", color="0.75", linewidth=4)
    for rows, words in (
        (cut[cut["step"] <= stopped], {"color": "C0", "label": "until SIGTERM"}),
        (cut[cut["step"] > stopped], {"color": "C3", "label": "resumed"}),
    ):
        panel.plot(rows["step"], rows["loss"], linewidth=1, **words)
    panel.axvline(stopped, color="0.4", linestyle=":")
    panel.set(xlabel="step", ylabel="loss")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)
