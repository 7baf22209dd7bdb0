# SPDX-License-Identifier: BSD-3-Clause
"""The perf report: what a run measured, where dcnv2 is slower, and how it was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from suites.perf import plots, speed_chart, tables
from suites.perf.layers import SETS
from suites.perf.ratios import (
    compare_with_peers,
    geometric_means,
    host_ratios,
    losses,
    slower_than,
)
from suites.reporting.interruption import INTERRUPTED
from suites.reporting.provenance import PEER_VERSIONS, provenance, version_of
from suites.reporting.report import write_report
from suites.reporting.tables import markdown_table

_METHOD = """\
Times are medians in milliseconds by the device's own clock (events on a GPU), with the caches
flushed before every call. The CSV also has the 20th and 80th percentile, times with warm caches and
times by the host's clock. `spread` is the distance between those percentiles over the median; ≈
marks figures with a spread above 10 %. `forward` runs without a graph, `backward` computes all five
gradients, and `both` is the convolution's share of a training step. Ratios are the other
implementation's time over ours in the same run, so above 1 dcnv2 is faster. torchvision and mmcv
have no bfloat16: our bf16 is compared with their fp16. fp32 forbids TF32, tf32 allows it.
torchvision and mmcv run on contiguous tensors, conv2d on channels_last ones, and cuDNN searches for
its fastest algorithm. conv2d is a regular convolution of the same shape: a practical lower bound,
as roi_align is for RoI pooling. onnxruntime and openvino run the layer exported to ONNX, in float32
on a CPU, with constant weights, and have no backward pass.

GB/s count every tensor once for each pass that reads or writes it. TFLOP/s count the matrix
products only (the backward pass has two). `of copy` and `of matmul` are shares of the rates of a
large copy and of a large matrix product in the same run. Workspace is peak memory beyond operands,
results and gradients; on a CPU it is that of the whole process."""
_SLOWER = """\
A ratio below 1 means that dcnv2 is slower. conv2d and roi_align do not sample at offsets and are
expected to be faster."""

_HOST = """\
The same ratios for the host's time of an eager call on a tiny layer, whose times are below."""


@dataclass
class Rows:
    """What a run has measured so far."""

    times: list[dict[str, object]] = field(default_factory=list)
    overheads: list[dict[str, object]] = field(default_factory=list)
    steps: list[dict[str, object]] = field(default_factory=list)
    errors: list[dict[str, object]] = field(default_factory=list)
    wrong: set[tuple[str, str, str, str]] = field(default_factory=set)
    ceilings: dict[str, float] = field(default_factory=dict)


def write(rows: Rows, directory: Path, interrupted: bool = False) -> Path:
    """Write perf.csv, perf.md and their pictures; return the Markdown file.

    Args:
        rows: What was measured.
        directory: Where to write.
        interrupted: Whether more was to be measured.
    """
    directory.mkdir(parents=True, exist_ok=True)
    times = pd.DataFrame(rows.times)
    ours = compare_with_peers(times)
    headline = geometric_means(ours[ours["set"].isin(SETS)])
    measured = set(times.implementation)
    versions = {peer: version_of(peer) for peer in PEER_VERSIONS if peer in measured}
    origin = provenance() | versions
    pictures = [
        *speed_chart.draw_speedups(times, pd.Series(origin), directory / speed_chart.NAME),
        *plots.draw_sweeps(times, directory / "perf_sweeps.png"),
    ]
    return write_report(
        "perf",
        times,
        title="Time and memory compared with other implementations" + INTERRUPTED * interrupted,
        sections=_sections(rows, times, ours),
        headline=headline if len(headline) else None,
        pictures=pictures,
        directory=directory,
        origin=origin,
    )


def _sections(rows: Rows, times: pd.DataFrame, ours: pd.DataFrame) -> dict[str, pd.DataFrame | str]:
    sections: dict[str, pd.DataFrame | str] = {
        "Where dcnv2 is slower": _slower(ours, rows.overheads),
        "How it was measured": _METHOD,
    }
    layers = ours[ours["set"].isin(SETS)]
    for group, part in layers.groupby("set", sort=False):
        sections[f"Layers of the set '{group}'"] = tables.layers_table(part)
    for quantity in ("channels", "pixels", "batch", "threads"):
        if (ours["set"] == quantity).any():
            sections[f"Cost against {quantity}"] = tables.sweep_table(ours, quantity)
    adversarial = ours[ours["set"] == "adversarial"]
    if len(adversarial):
        sections["Adversarial offsets"] = tables.adversarial_table(adversarial)
    pools = times[times["set"] == "pools"]
    if len(pools):
        sections["RoI pooling"] = tables.times_table(pools)
    suppression = times[times["set"] == "nms"]
    if len(suppression):
        sections["Batched non-maximum suppression"] = tables.times_table(suppression)
    if rows.steps:
        sections["Whole training steps"] = tables.steps_table(rows.steps)
    if rows.overheads:
        sections["Host overhead per eager call"] = tables.overhead_table(rows.overheads)
    if rows.errors:
        sections["Relative error against float64"] = pd.DataFrame(rows.errors)
    if rows.ceilings:
        sections["Limits of this machine"] = tables.ceilings_table(rows.ceilings)
    return sections


def _slower(ours: pd.DataFrame, overheads: Sequence[Mapping[str, object]]) -> str:
    """Counts for every implementation, and each problem in which a deformable one is faster."""
    counts = slower_than(ours)
    if counts.empty:
        return "This run has nothing to compare with."
    parts = [_SLOWER, markdown_table(counts)]
    lost = losses(ours)
    if len(lost):
        parts += ["Problems in which another deformable operator is faster, worst first:"]
        parts += [markdown_table(tables.layers_table(lost))]
    else:
        parts.append("No other deformable operator is faster in any problem of this run.")
    host = host_ratios(overheads)
    if len(host):
        parts += [_HOST, markdown_table(host)]
    return "\n\n".join(parts)
