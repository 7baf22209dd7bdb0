# SPDX-License-Identifier: BSD-3-Clause
"""What a run measures: cases by the options of the command line, and the row that each makes."""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from suites.layers import SETS, Layer, sweep
from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.measure import Gauge, percentiles
from suites.perf.problems import Problem, matmul_mode

SWEPT = ("channels", "pixels", "batch")
MAGNITUDES_PX = ("0", "0.5", "1", "2", "4", "8", "16", "32", "64")
ADVERSARIAL = ("one_pixel", "one_row", "outside")


@dataclass(frozen=True)
class Case:
    """One measurement. `group` is the set or the swept quantity, `value` a sweep's abscissa."""

    group: str
    layer: Layer
    implementation: str
    dtype: str
    layout: str
    passes: str
    offsets: str = "2"
    value: str = ""

    @property
    def label(self) -> str:
        """The name of the case in test reports."""
        kind = (self.offsets,) if self.group in ("magnitude", "adversarial") else ()
        parts = (self.layer.name, *kind, self.implementation, self.dtype, self.layout, self.passes)
        return "-".join(parts)

    def problem(self, device: str) -> Problem:
        """The case's operands, on a device."""
        implementation = IMPLEMENTATIONS[self.implementation]
        return Problem(self.layer, implementation, self.dtype, device, self.layout, self.offsets)


@dataclass(frozen=True)
class Selection:
    """The options of a run."""

    device: str
    sets: Sequence[str]
    dtypes: Sequence[str]
    implementations: Sequence[str]
    passes: Sequence[str]
    layouts: Sequence[str]

    def variants(self, layer: Layer) -> Iterator[tuple[str, str, str]]:
        """Every (implementation, dtype, layout) that can run a layer here."""
        for name in self.implementations:
            implementation = IMPLEMENTATIONS[name]
            for dtype in self.dtypes:
                if implementation.unsupported(layer, dtype, self.device):
                    continue
                for layout in implementation.layouts:
                    # A layout is a choice only where the implementation takes both.
                    if layout in self.layouts or len(implementation.layouts) == 1:
                        yield name, dtype, layout

    def layers(self) -> list[tuple[str, Layer]]:
        """Every layer of the chosen sets, with its set."""
        return [(name, layer) for name in self.sets if name in SETS for layer in SETS[name]]

    def layer_cases(self) -> list[Case]:
        """Every pass of every variant of the layers."""
        return [
            Case(group, layer, *variant, passes)
            for group, layer in self.layers()
            for variant in self.variants(layer)
            for passes in self.passes
        ]

    def sweep_cases(self) -> list[Case]:
        """The sweeps, if chosen: one half type on a GPU, float32 on a CPU; forward and backward."""
        if "sweeps" not in self.sets:
            return []
        points = [
            (quantity, layer, "2", str(value))
            for quantity in SWEPT
            for value, layer in sweep(quantity, self.device).items()
        ]
        half = self.device.startswith("cuda")
        base = sweep("pixels", self.device)[128 if half else 64]
        base = dataclasses.replace(base, name="sweep")
        points += [("magnitude", base, pixels, pixels) for pixels in MAGNITUDES_PX]
        points += [("adversarial", base, kind, kind) for kind in ("2", *ADVERSARIAL)]
        peers = {"torchvision": "fp16", "mmcv": "fp16"}
        cases = []
        for group, layer, offsets, value in points:
            for name in self.implementations:
                implementation = IMPLEMENTATIONS[name]
                dtype = peers.get(name, "bf16") if half else "fp32"
                if name == "portable" or implementation.unsupported(layer, dtype, self.device):
                    continue
                cases += [
                    Case(
                        group, layer, name, dtype, implementation.layouts[0], passes, offsets, value
                    )
                    for passes in ("forward", "backward")
                    if passes in self.passes
                ]
        return cases


def measure(case: Case, gauge: Gauge, benchmark) -> dict[str, object]:
    """Time a case on the device, and by pytest-benchmark on the host's clock; return its row."""
    with matmul_mode(case.dtype):
        problem = case.problem(gauge.device)
        call = getattr(problem, case.passes)
        rounds = gauge.warm_up(call)
        cold = percentiles(gauge.times_ms(call, rounds, cold=True))
        warm = percentiles(gauge.times_ms(call, rounds, cold=False))
        workspace_mib = gauge.workspace_mib(call)

        def to_the_end() -> None:
            call()
            gauge.synchronize()

        def begin_cold() -> None:
            gauge.flush()
            gauge.synchronize()

        benchmark.group = f"{case.layer.name} {case.passes}"
        benchmark.pedantic(to_the_end, setup=begin_cold, rounds=min(rounds, 3), iterations=1)
    row = _identity(case) | _named("cold", cold) | _named("warm", warm)
    row |= _rates(case, problem, gauge, cold[1] / 1e3)
    if not benchmark.disabled:
        row["host_ms"] = statistics.median(benchmark.stats.stats.data) * 1e3
    row["workspace_mib"] = workspace_mib
    benchmark.extra_info.update(row)
    return row


def _identity(case: Case) -> dict[str, object]:
    layer = dataclasses.asdict(case.layer)
    layer["layer"] = layer.pop("name")
    for name in ("kernel", "stride", "padding", "dilation"):
        layer[name] = "x".join(map(str, layer[name]))
    return {
        "op": "deform_conv2d",
        "set": case.group,
        "value": case.value,
        **layer,
        "offsets": case.offsets,
        "implementation": case.implementation,
        "dtype": case.dtype,
        "layout": case.layout,
        "pass": case.passes,
    }


def _named(cache: str, times: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((f"{cache}_{p}_ms" for p in ("p20", "p50", "p80")), times, strict=True))


def _rates(case: Case, problem: Problem, gauge: Gauge, seconds: float) -> dict[str, float]:
    deformable = problem.implementation.deformable
    size = problem.grad_output.element_size()
    gbps = case.layer.moved_bytes(case.passes, size, deformable) / seconds / 1e9
    tflops = case.layer.flops(case.passes) / seconds / 1e12
    return {
        "gbps": gbps,
        "tflops": tflops,
        "bandwidth_share": gbps / gauge.copy_gbps(),
        "matmul_share": tflops / gauge.matmul_tflops(case.dtype),
    }
