# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2 bench`: times and memory of one implementation next to dcnv2, torchvision and conv2d."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from dcnv2.harness import UsageError
from suites.backends.registry import Backend
from suites.claims.budget import seconds
from suites.perf.device_timer import DeviceTimer, percentiles
from suites.perf.float64_check import conv_reference, conv_tolerance, relative_errors
from suites.perf.implementations import IMPLEMENTATIONS, Implementation
from suites.perf.layers import SETS, Layer
from suites.perf.memory import workspace_mib
from suites.perf.problems import DTYPES, LayerPasses, matmul_mode
from suites.problems.problem import ConvProblem
from suites.verify import bench_report
from suites.verify.bench_report import Row
from suites.verify.command import as_module, prepare
from suites.verify.origin import origin

NAMES = {label: str(dtype).removeprefix("torch.") for label, dtype in DTYPES.items()}
# float32 is measured without TF32.
LABELS = {name: label for label, name in NAMES.items() if label != "tf32"}
BESIDE = ("dcnv2", "torchvision", "conv2d")


@dataclass(frozen=True)
class _Tested(Implementation):
    """A user's implementation, and which operands it does not take."""

    lacking: tuple[str, ...] = ()

    @property
    def operands(self) -> tuple[str, ...]:
        return tuple(name for name in super().operands if name not in self.lacking)


def bench(spec: str, budget: str, dtypes: Sequence[str], device: str | None, out: Path) -> int:
    """Measure an implementation, write bench.html, bench.md and bench.json, and print the times.

    Args:
        spec: module:function, file.py:function, or the name of a backend.
        budget: the time for the measurements, such as 60s, or none.
        dtypes: to measure in; by default float32.
        device: cpu or cuda; by default a GPU if there is one.
        out: the folder to write to.

    Returns:
        0, or 1 if results of the implementation are wrong.

    Raises:
        UsageError: The implementation cannot be called or measured.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtypes = dtypes or ("float32",)
    command = ["dcnv2", "bench", spec, f"--device={device}", *(f"--dtype={d}" for d in dtypes)]
    spec = as_module(spec)
    backend = prepare(spec, device, budget, dtypes)
    if getattr(backend, "op", "deform_conv2d") != "deform_conv2d":
        raise UsageError(f"{spec} is a pooling; only convolutions are measured")
    end = time.monotonic() + seconds(budget)
    rows = list(_rows(_implementations(spec, backend), dtypes, device, end))
    own = [row for row in rows if row.implementation == spec]
    if not any(row.ms is not None or row.wrong for row in own):
        reasons = sorted({row.remark for row in own})
        raise UsageError(f"{spec} was not measured: {'; '.join(reasons)}")
    where = origin(shlex.join(command), spec, getattr(backend, "version", ""))
    out.mkdir(parents=True, exist_ok=True)
    page = bench_report.write(spec, rows, where, out)
    print("\n".join([*bench_report.screen(spec, rows), "", f"report: {page}"]))
    return int(any(row.wrong for row in own))


def _implementations(spec: str, backend: Backend) -> dict[str, Implementation]:
    """The tested implementation, then those that it is compared with."""
    operator = backend.operator("deform_conv2d")
    lacking = tuple(n for n in getattr(backend, "unsupported_args", ()) if n != "groups")

    def call(layer: Layer, t: Mapping[str, Tensor]) -> Tensor:
        window = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        return operator(**{name: t.get(name) for name in ConvProblem.operand_names}, **window)

    def unsupported(layer: Layer, dtype: str, device: str) -> str | None:
        sizes = {k: v for k, v in asdict(layer).items() if k not in ("name", "net")}
        optional = {name: name not in lacking for name in ("mask", "bias")}
        return backend.supports(ConvProblem(**sizes, **optional, dtype=NAMES[dtype]), device)

    gradients = getattr(backend, "gradients", True)
    tested = _Tested(spec, call, unsupported, lacking=lacking, gradients=gradients)
    return {spec: tested, **{name: IMPLEMENTATIONS[name] for name in BESIDE if name != spec}}


def _rows(
    implementations: Mapping[str, Implementation],
    dtypes: Sequence[str],
    device: str,
    end: float,
) -> Iterator[Row]:
    """A row for each layer, dtype, implementation and pass."""
    timer = DeviceTimer(device)
    for layer in SETS["eight" if device == "cuda" else "cpu"]:
        for dtype in dtypes:
            for name, implementation in implementations.items():
                if sys.stderr.isatty():
                    line = f"{layer.name} {dtype} {name}"[:79].ljust(79)
                    print(f"\r{line}", end="\r", file=sys.stderr, flush=True)
                for passes in ("forward", "backward"):
                    where = Row(layer.name, dtype, passes, name)
                    yield _measured(where, layer, implementation, timer, end)


def _measured(
    row: Row, layer: Layer, implementation: Implementation, timer: DeviceTimer, end: float
) -> Row:
    """One pass of an implementation on a layer."""
    label = LABELS[row.dtype]
    if reason := implementation.unsupported(layer, label, timer.device):
        return row.but(remark=reason)
    if row.passes == "backward" and not implementation.gradients:
        return row.but(remark="no gradients")
    if time.monotonic() > end:
        return row.but(remark="not reached")
    layout = implementation.layouts[0]
    with matmul_mode(label):
        try:
            if implementation.deformable:
                checked = LayerPasses(
                    layer, implementation, label, timer.device, layout, "sixteenths"
                )
                if remark := _wrong(checked, row.passes, conv_tolerance(layer, label)):
                    return row.but(remark=remark, wrong=True)
            problem = LayerPasses(layer, implementation, label, timer.device, layout)
            call = getattr(problem, row.passes)
            rounds = timer.warm_up(call)
            ms = percentiles(timer.times_ms(call, rounds, cold=True))[1]
            return row.but(ms=ms, workspace_mib=workspace_mib(call, timer.device))
        except Exception as error:
            text = str(error).strip() or "no message"
            remark = f"{type(error).__name__}: {text.splitlines()[0]}"
            memory = isinstance(error, torch.OutOfMemoryError)
            return row.but(remark=remark, wrong=not memory)


def _wrong(problem: LayerPasses, passes: str, tolerance: float) -> str:
    """Which results differ from torchvision's in float64, and by how much."""
    problem.grad_output[1:] = 0  # only the first image is checked
    if passes == "forward":
        got = {"output": problem.forward()}
    else:
        names = (f"grad_{name}" for name in problem.operands)
        got = dict(zip(names, problem.backward(), strict=True))
    errors = relative_errors(got, conv_reference(problem))
    off = [f"{name} by {ratio:.2g}" for name, ratio in errors.items() if not ratio <= tolerance]
    return f"wrong: relative error of {', '.join(off)}, allowed {tolerance:.2g}" if off else ""
