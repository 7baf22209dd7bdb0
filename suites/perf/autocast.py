# SPDX-License-Identifier: BSD-3-Clause
"""Layers under autocast: time and error compared with torchvision's, which runs in float32.

    python -m suites.perf.autocast [--device cuda] [--set eight] [--out FOLDER]

As in a net, the input has autocast's dtype, offsets, masks and parameters are float32, and both
return their output in the input's dtype. On a CPU torchvision has no autocast rule, so its operands
are cast here as they are on CUDA. Ours computes in the half type by default, and in float32 after
`dcnv2.ops.set_autocast_compute_dtype`. Errors are relative L2 norms against float64 on the same
operands. In the half type ours rounds parameters and their gradients, as every PyTorch convolution
does under autocast; in float32 neither implementation does. Writes autocast.md and .csv.
"""

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from dcnv2.ops import get_autocast_compute_dtype, set_autocast_compute_dtype
from suites.perf.device_timer import DeviceTimer
from suites.perf.float64_check import relative_errors
from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import SETS, Layer
from suites.perf.problems import DTYPES, PASSES, LayerPasses, Passes, named_results
from suites.perf.ratios import geometric_mean
from suites.reporting.folders import report_dir
from suites.reporting.report import write_report

HALVES = ("bf16", "fp16")


def runs(half: str) -> tuple[tuple[str, str], ...]:
    """Each implementation with the dtype that it computes in under autocast."""
    return ("dcnv2", half), ("dcnv2", "fp32"), ("torchvision", "fp32")


def operands_of(layer: Layer, half: str, device: str) -> tuple[dict[str, Tensor], Tensor]:
    """A layer's operands as a net under autocast passes them, and the output's gradient."""
    problem = LayerPasses(layer, IMPLEMENTATIONS["dcnv2"], "fp32", device)
    values = {name: value.detach() for name, value in problem.operands.items()}
    values["input"] = values["input"].to(DTYPES[half])
    return values, problem.grad_output.to(DTYPES[half])


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


@contextmanager
def computing_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Make ours compute in a dtype under autocast; None is autocast's own."""
    before = get_autocast_compute_dtype()
    set_autocast_compute_dtype(dtype)
    try:
        yield
    finally:
        set_autocast_compute_dtype(before)


def measure(layers: Iterable[Layer], device: str, budget_s: float | None = None) -> pd.DataFrame:
    """A row for each layer, autocast's dtype, implementation and dtype that it computes in."""
    timer = DeviceTimer(device, budget_s)
    rows = []
    for layer in layers:
        for half in HALVES:
            values, grad = operands_of(layer, half, device)
            expected = named_results(passes("torchvision", layer, values, grad, "fp64"))
            for name, compute in runs(half):
                problem = passes(name, layer, values, grad, half)
                with computing_in(torch.float32 if compute == "fp32" else None):
                    assert problem.forward().dtype == DTYPES[half]
                    off = relative_errors(named_results(problem), expected)
                    times = {
                        f"{which}_ms": timer.median_ms(getattr(problem, which), cold=True)
                        for which in PASSES
                    }
                row = {"layer": layer.name, "dtype": half}
                row |= {"implementation": name, "compute_dtype": compute}
                rows.append({**row, **times, **off})
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """torchvision's time over ours and our error over torchvision's, geometric means over layers.

    A row for each dtype of autocast and each that ours computes in. Time ratios above 1 and error
    ratios below 1 mean that ours is better. The last column is the largest error ratio.
    """
    keys = ["layer", "dtype"]
    ours = rows[rows.implementation == "dcnv2"]
    theirs = rows[rows.implementation == "torchvision"].set_index(keys)
    times = [f"{which}_ms" for which in PASSES]
    quantities = [c for c in rows.columns if c == "output" or c.startswith("grad_")]
    table = []
    for (half, compute), group in ours.groupby(["dtype", "compute_dtype"], sort=False):
        part = group.set_index(keys)
        peer = theirs.loc[part.index]
        faster = (peer[times] / part[times]).apply(geometric_mean)
        off = part[quantities] / peer[quantities]
        row = {"dtype": half, "compute_dtype": compute}
        row |= {f"{which} x": faster[f"{which}_ms"] for which in PASSES}
        row |= {f"{q} error": geometric_mean(off[q]) for q in quantities}
        table.append({**row, "largest error": off.to_numpy().max()})
    return pd.DataFrame(table)


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.perf.autocast",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device)
    parser.add_argument("--set", default="eight" if device == "cuda" else "cpu", choices=SETS)
    parser.add_argument("--out", type=Path, help="default: reports/, or the GPU's folder in it")
    options = parser.parse_args()
    rows = measure(SETS[options.set], options.device)
    summary = summarise(rows)
    path = write_report(
        "autocast",
        rows,
        title="Autocast: time and error compared with torchvision in float32",
        headline=summary,
        sections={"How it was measured": __doc__.split("\n\n", 2)[2], "Layers": rows},
        directory=options.out or report_dir(options.device),
    )
    print(summary.to_string(index=False))
    print(path)


if __name__ == "__main__":
    main()
