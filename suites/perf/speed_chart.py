# SPDX-License-Identifier: BSD-3-Clause
"""Bar chart of the speed-up over torchvision, layer by layer, as README shows it.

The perf report draws it; `python -m suites.perf.speed_chart FOLDER...` draws it again from the
perf.csv of each folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from suites.perf.layers import SETS

NAME = "perf_speed.png"
# The default memory format of PyTorch comes first.
LAYOUTS = {
    "contiguous": ("contiguous (PyTorch's default)", "C3"),
    "channels_last": ("channels_last", "C0"),
}
_PEER = "torchvision"
_NAMED_SETS = ("eight", "cpu")  # small enough for one chart


def speedups(times: pd.DataFrame) -> pd.DataFrame:
    """Time of torchvision over ours for forward and backward together.

    Args:
        times: rows of perf.csv.

    Returns:
        A row for each layer, a column for each memory layout that was measured. Empty without
        rows of either implementation. Our bfloat16 is compared with torchvision's float16, which
        has no bfloat16; on a CPU both use float32.
    """
    rows = times[times["set"].isin(_NAMED_SETS) & (times["pass"] == "both")]
    halves = (rows.dtype == "bf16").any()
    ours = rows[(rows.implementation == "dcnv2") & (rows.dtype == ("bf16" if halves else "fp32"))]
    peer = rows[(rows.implementation == _PEER) & (rows.dtype == ("fp16" if halves else "fp32"))]
    ms = ours.pivot_table(index="layer", columns="layout", values="cold_p50_ms", sort=False)
    ratios = ms.rdiv(peer.set_index("layer").cold_p50_ms.astype(float), axis=0)
    return ratios[[layout for layout in LAYOUTS if layout in ratios]].reindex(ms.index).dropna()


def draw_speedups(times: pd.DataFrame, origin: pd.Series, path: Path) -> list[str]:
    """Draw the chart; return the names of the pictures (none or one).

    Args:
        times: rows of perf.csv.
        origin: their provenance: `gpu`, `cpu`, `torch`, `torchvision` and `date` are shown.
        path: PNG to write.
    """
    ratios = speedups(times)
    if ratios.empty:
        return []
    labels = [*(_title(name) for name in ratios.index), "geometric mean"]
    values = np.vstack([ratios.to_numpy(), np.exp(np.log(ratios).mean()).to_numpy()])
    figure, panel = plt.subplots(figsize=(8, 1.5 + 0.4 * len(labels)), layout="constrained")
    height = 0.8 / values.shape[1]
    for number, layout in enumerate(ratios):
        text, colour = LAYOUTS[layout]
        at = np.arange(len(labels)) + (number - (values.shape[1] - 1) / 2) * height
        bars = panel.barh(at, values[:, number], height, color=colour, label=text)
        panel.bar_label(bars, fmt="%.1fx", padding=2, fontsize=8)
    panel.axvline(1, color="0.3", linewidth=1)
    panel.set_yticks(range(len(labels)), labels, fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.set_xlabel("times as fast as torchvision, forward and backward")
    panel.set_title(_heading(origin, len(ratios)), fontsize=9)
    figure.legend(fontsize=8, loc="outside lower center", ncols=len(LAYOUTS))
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return [path.name]


def _title(name: str) -> str:
    layer = next(layer for layers in SETS.values() for layer in layers if layer.name == name)
    groups = f", {layer.deform_groups} deform groups" if layer.deform_groups > 1 else ""
    size = f"{layer.in_channels} channels, {layer.height}x{layer.width}"
    return f"{layer.net}, batch {layer.batch}{groups}\n{size}"


def _heading(origin: pd.Series, count: int) -> str:
    on_cpu = origin.gpu == "none"
    types = "float32" if on_cpu else "bfloat16 (torchvision: float16)"
    machine = origin.cpu if on_cpu else origin.gpu
    versions = f"torch {origin.torch}, torchvision {origin.torchvision}"
    return f"{count} layers in {types}\n{machine}, {versions}, {origin.date}"


def main(words: Sequence[str] | None = None) -> None:
    """Draw the chart of each folder that holds a perf.csv."""
    parser = argparse.ArgumentParser(prog="python -m suites.perf.speed_chart", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of a perf report")
    for folder in parser.parse_args(words).folders:
        times = pd.read_csv(folder / "perf.csv")
        draw_speedups(times, times.iloc[0], folder / NAME)


if __name__ == "__main__":
    main()
