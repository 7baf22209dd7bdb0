# SPDX-License-Identifier: BSD-3-Clause
"""Log-log plots of the sweeps."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

_AXES = {
    "channels": "channels, in and out",
    "pixels": "side of the map, pixels",
    "batch": "batch",
    "threads": "threads",
    "magnitude": "standard deviation of the offsets, pixels",
}
_COLOURS = {
    "dcnv2": "C3",
    "torchvision": "C0",
    "mmcv": "C2",
    "onnxruntime": "C1",
    "openvino": "C4",
    "conv2d": "0.4",
}
_LINES = {"forward": "-", "backward": "--"}


def draw_sweeps(times: pd.DataFrame, path: Path) -> list[str]:
    """Draw a panel for each sweep of the run; return the names of the pictures (none or one)."""
    quantities = [quantity for quantity in _AXES if (times["set"] == quantity).any()]
    if not quantities:
        return []
    figure, panels = plt.subplots(
        1,
        len(quantities),
        figsize=(4 * len(quantities), 4.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, quantity in zip(panels[0], quantities, strict=True):
        _draw(panel, quantity, times[times["set"] == quantity])
    panels[0][0].set_ylabel("ms, cold caches")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return [path.name]


def _draw(panel: plt.Axes, quantity: str, rows: pd.DataFrame) -> None:
    for (name, dtype, passes), line in rows.groupby(
        ["implementation", "dtype", "pass"], sort=False
    ):
        line = line.assign(value=line.value.astype(float)).sort_values("value")
        style = {
            "color": _COLOURS[name],
            "linestyle": _LINES[passes],
            "marker": "o",
            "markersize": 3,
        }
        panel.plot(line.value, line.cold_p50_ms, label=f"{name} {dtype} {passes}", **style)
    if quantity == "magnitude":
        panel.set_xscale("symlog", base=2, linthresh=0.5)  # the first value is 0
    else:
        panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_yscale("log")
    panel.set_xlabel(_AXES[quantity])
    panel.grid(True, which="both", alpha=0.3)
