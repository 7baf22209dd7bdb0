# SPDX-License-Identifier: BSD-3-Clause
"""Layers under autocast: our time and error beside torchvision's, which then runs in float32.

    python -m suites.perf.autocast [--device cuda] [--set eight] [--out FOLDER]

As in a net, the input comes in autocast's dtype, offsets, masks and parameters in float32, and both
give their output in the input's dtype. On a CPU torchvision has no rule for autocast: there its
operands are cast here as they are on CUDA. Errors are relative L2 norms against float64 on the very
same operands: ours rounds parameters and their gradients to the half type, as every convolution of
PyTorch does under autocast; torchvision's do not. Writes autocast.md and .csv.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from suites.layers import SETS, Layer
from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.measure import Gauge, percentiles
from suites.perf.problems import DTYPES, PASSES, Passes, Problem
from suites.reporting import report_dir, write_report

NAMES = ("dcnv2", "torchvision")
HALVES = ("bf16", "fp16")


def operands_of(layer: Layer, half: str, device: str) -> tuple[dict[str, Tensor], Tensor]:
    """A layer's operands as a net under autocast hands them over, and the output's gradient."""
    whole = Problem(layer, IMPLEMENTATIONS["dcnv2"], "fp32", device)
    values = {name: value.detach() for name, value in whole.operands.items()}
    values["input"] = values["input"].to(DTYPES[half])
    return values, whole.grad_output.to(DTYPES[half])


def passes(name: str, layer: Layer, values: dict[str, Tensor], grad: Tensor, half: str) -> Passes:
    """The passes of an implementation under autocast; in float64, without it, for 'fp64'."""
    exact = half == "fp64"
    leaves = {
        key: (value.double() if exact else value.clone()).requires_grad_()
        for key, value in values.items()
    }

    call, kind = IMPLEMENTATIONS[name].call, grad.device.type

    def record() -> Tensor:
        if exact:
            return call(layer, leaves)
        if name == "torchvision" and kind == "cpu":
            wide = {key: value.float() for key, value in leaves.items()}
            return call(layer, wide).to(DTYPES[half])
        with torch.autocast(kind, DTYPES[half]):
            return call(layer, leaves)

    return Passes(record, leaves, grad.double() if exact else grad)


def errors(got: Passes, expected: tuple[Tensor, ...]) -> dict[str, float]:
    """Relative L2 error of the output and of each gradient."""
    keys = ("output", *(f"grad_{name}" for name in got.operands))
    return {
        key: float((value.double() - wanted).detach().norm() / wanted.detach().norm())
        for key, value, wanted in zip(keys, got.both(), expected, strict=True)
    }


def time_ms(gauge: Gauge, call: Callable) -> float:
    """Median time with cold caches."""
    return percentiles(gauge.times_ms(call, gauge.warm_up(call), cold=True))[1]


def measure(layers: Iterable[Layer], device: str, budget_s: float | None = None) -> pd.DataFrame:
    """A row for each layer, dtype and implementation."""
    gauge = Gauge(device, budget_s)
    rows = []
    for layer in layers:
        for half in HALVES:
            values, grad = operands_of(layer, half, device)
            expected = passes("torchvision", layer, values, grad, "fp64").both()
            for name in NAMES:
                problem = passes(name, layer, values, grad, half)
                assert problem.forward().dtype == DTYPES[half]
                times = {f"{which}_ms": time_ms(gauge, getattr(problem, which)) for which in PASSES}
                row = {"layer": layer.name, "dtype": half, "implementation": name, **times}
                rows.append({**row, **errors(problem, expected)})
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """For each dtype: torchvision's time by ours and our error by torchvision's, geometric means.

    Times above 1 and errors below 1 are in our favour; the largest error ratio stands beside.
    """
    keys = ["layer", "dtype"]
    ours, theirs = (rows[rows.implementation == name].set_index(keys) for name in NAMES)
    times = [f"{which}_ms" for which in PASSES]
    quantities = [c for c in rows.columns if c == "output" or c.startswith("grad_")]
    table = []
    for half, part in ours.groupby("dtype"):
        peer = theirs.loc[part.index]
        faster = (peer[times] / part[times]).apply(_geometric_mean)
        off = part[quantities] / peer[quantities]
        row = {"dtype": half, **{f"{w} x": faster[f"{w}_ms"] for w in PASSES}}
        row |= {f"{q} error": _geometric_mean(off[q]) for q in quantities}
        table.append({**row, "largest error": off.to_numpy().max()})
    return pd.DataFrame(table)


def _geometric_mean(ratios: pd.Series) -> float:
    return float(ratios.prod() ** (1 / len(ratios)))


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(prog="python -m suites.perf.autocast", description=__doc__)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device)
    parser.add_argument("--set", default="eight" if device == "cuda" else "cpu", choices=SETS)
    parser.add_argument("--out", type=Path, help="by default the reports' folder for the device")
    options = parser.parse_args()
    rows = measure(SETS[options.set], options.device)
    summary = summarise(rows)
    path = write_report(
        "autocast",
        rows,
        title="Under autocast, beside torchvision's float32",
        headline=summary,
        sections={"How it was measured": __doc__.split("\n\n", 2)[2], "Layers": rows},
        directory=options.out or report_dir(options.device),
    )
    print(summary.to_string(index=False))
    print(path)


if __name__ == "__main__":
    main()
