# SPDX-License-Identifier: BSD-3-Clause
"""Where the time of a layer goes: every kernel of forward and backward, by the profiler.

    python -m suites.perf.kernels [--set eight] [--dtype bf16] [--impl dcnv2] [--out FOLDER]

Times are means over a few steps with warm caches, by the device's clock. Profiling adds overhead,
so times are for comparing kernels of one table; `pytest suites/perf` has the benchmarks. On a CPU
the rows are PyTorch's operators instead of kernels. Writes kernels.md and .csv.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import SETS, Layer
from suites.perf.problems import DTYPES, LayerPasses, matmul_mode
from suites.reporting.folders import report_dir
from suites.reporting.report import write_report

_WARM_UPS, _STEPS = 3, 5


def kernel_name(symbol: str) -> str:
    """A kernel's name without namespaces and arguments; template arguments are kept."""
    bare = re.sub(r"\(anonymous namespace\)::|\b\w+::|^void |<unnamed>::", "", symbol)
    return bare.split("(")[0].strip()


def profile_layer(layer: Layer, implementation: str, dtype: str, device: str) -> pd.DataFrame:
    """A row for each kernel of forward and backward: us and calls per step, longest first."""
    problem = LayerPasses(layer, IMPLEMENTATIONS[implementation], dtype, device, "channels_last")
    on_gpu = device.startswith("cuda")
    kind = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with matmul_mode(dtype):
        for _ in range(_WARM_UPS):
            problem.both()
        if on_gpu:
            torch.cuda.synchronize()
        with profile(activities=[kind]) as profiled:
            for _ in range(_STEPS):
                problem.both()
            if on_gpu:
                torch.cuda.synchronize()
    rows = [
        {
            "layer": layer.name,
            "kernel": kernel_name(event.key),
            "us": (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / _STEPS,
            "calls": event.count / _STEPS,
        }
        for event in profiled.key_averages()
    ]
    table = pd.DataFrame([row for row in rows if row["us"] > 0])
    table["share"] = table["us"] / table["us"].sum()
    return table.sort_values("us", ascending=False, ignore_index=True)


def measure(layers: Iterable[Layer], implementation: str, dtype: str, device: str) -> pd.DataFrame:
    """The kernels of every layer."""
    return pd.concat(
        [profile_layer(layer, implementation, dtype, device) for layer in layers],
        ignore_index=True,
    )


def main() -> None:
    """Profile and write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.perf.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device)
    parser.add_argument("--set", default="eight" if device == "cuda" else "cpu", choices=SETS)
    parser.add_argument("--dtype", default="bf16" if device == "cuda" else "fp32", choices=DTYPES)
    parser.add_argument("--impl", default="dcnv2", choices=IMPLEMENTATIONS)
    parser.add_argument("--out", type=Path, help="default: reports/, or the GPU's folder in it")
    options = parser.parse_args()
    rows = measure(SETS[options.set], options.impl, options.dtype, options.device)
    layers = {name: part.drop(columns="layer") for name, part in rows.groupby("layer", sort=False)}
    path = write_report(
        "kernels",
        rows,
        title=f"Where the time goes: {options.impl}, {options.dtype}",
        headline=rows.groupby("layer", sort=False)[["us", "calls"]].sum().reset_index(),
        sections={"How it was measured": __doc__.split("\n\n", 2)[2], **layers},
        directory=options.out or report_dir(options.device),
    )
    for name, part in layers.items():
        print(name, part.head(25).to_string(index=False), sep="\n")
    print(path)


if __name__ == "__main__":
    main()
