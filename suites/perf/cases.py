# SPDX-License-Identifier: BSD-3-Clause
"""What a run measures: the cases that the command line selects, and the row of each."""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from suites.perf import pyramids
from suites.perf.ceilings import Ceilings
from suites.perf.device_timer import DeviceTimer, percentiles
from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import SETS, TINY, Layer, find, sweep
from suites.perf.memory import workspace_mib
from suites.perf.pools import OPERATORS, PoolCase
from suites.perf.problems import DTYPES, LayerPasses, matmul_mode
from suites.perf.suppression import CPU, GPU, NmsCase
from suites.problems.threads import limited_threads

SWEPT = ("channels", "pixels", "batch")
MAGNITUDES_PX = ("0", "0.5", "1", "2", "4", "8", "16", "32", "64")
ADVERSARIAL = ("clustered", "one_row", "outside")
THREADED_LAYER, MOST_THREADS = "cpu_c3", 16


@dataclass(frozen=True)
class Case:
    """One measurement. `group` is the set or the swept quantity, `value` that quantity."""

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

    @property
    def name(self) -> str:
        """The name of what is measured, without the implementation."""
        return self.layer.name

    @property
    def threads(self) -> int | None:
        """The number of threads that it is limited to, if threads are swept."""
        return int(self.value) if self.group == "threads" else None

    def problem(self, device: str) -> LayerPasses:
        """The case's operands, on a device."""
        implementation = IMPLEMENTATIONS[self.implementation]
        return LayerPasses(
            self.layer, implementation, self.dtype, device, self.layout, self.offsets
        )

    def identity(self) -> dict[str, object]:
        """The columns that say what was measured."""
        layer = dataclasses.asdict(self.layer)
        layer["layer"] = layer.pop("name")
        for name in ("kernel", "stride", "padding", "dilation"):
            layer[name] = "x".join(map(str, layer[name]))
        return {
            "op": "deform_conv2d",
            "set": self.group,
            "value": self.value,
            **layer,
            "offsets": self.offsets,
            "implementation": self.implementation,
            "dtype": self.dtype,
            "layout": self.layout,
            "pass": self.passes,
        }

    def moved_bytes(self) -> int:
        """Least traffic with memory."""
        deformable = IMPLEMENTATIONS[self.implementation].deformable
        return self.layer.moved_bytes(self.passes, DTYPES[self.dtype].itemsize, deformable)

    def flops(self) -> int:
        """Operations of the matrix products."""
        return self.layer.flops(self.passes)


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
                for layout in self.layouts_of(name):
                    yield name, dtype, layout

    def layouts_of(self, implementation: str) -> list[str]:
        """The chosen layouts; where an implementation is measured in one layout only, that one."""
        layouts = IMPLEMENTATIONS[implementation].layouts
        return [name for name in self.layouts if name in layouts] or list(layouts[:1])

    def passes_of(self, implementation: str) -> list[str]:
        """The chosen passes that an implementation has."""
        gradients = IMPLEMENTATIONS[implementation].gradients
        return [passes for passes in self.passes if gradients or passes == "forward"]

    def eager_calls(self) -> list[tuple[str, str]]:
        """Every (implementation, pass) that can run here in float32."""
        return [
            (name, passes)
            for name in self.implementations
            if not IMPLEMENTATIONS[name].unsupported(TINY, "fp32", self.device)
            for passes in self.passes_of(name)
        ]

    def layers(self) -> list[tuple[str, Layer]]:
        """Every layer of the chosen sets, with its set."""
        return [(name, layer) for name in self.sets if name in SETS for layer in SETS[name]]

    def layer_cases(self) -> list[Case]:
        """Every pass of every variant of the layers."""
        return [
            Case(group, layer, *variant, passes)
            for group, layer in self.layers()
            for variant in self.variants(layer)
            for passes in self.passes_of(variant[0])
        ]

    def sweep_cases(self) -> list[Case]:
        """The sweeps, if chosen: forward and backward, in one half type on a GPU, float32 on a CPU.

        The layout is the first of those chosen. On a CPU there is also a sweep over threads.
        """
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
        magnitudes = MAGNITUDES_PX if half else MAGNITUDES_PX[::2]
        points += [("magnitude", base, pixels, pixels) for pixels in magnitudes]
        points += [("adversarial", base, kind, kind) for kind in ("2", *ADVERSARIAL)]
        if not half:
            threaded = find(THREADED_LAYER)
            points += [
                ("threads", dataclasses.replace(threaded, name=f"threads_{n}"), "2", str(n))
                for n in thread_counts()
            ]
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
                        group, layer, name, dtype, self.layouts_of(name)[0], passes, offsets, value
                    )
                    for passes in self.passes_of(name)
                    if passes != "both"
                ]
        return cases

    def training_steps(self) -> list:
        """A detector's whole training step on each operator as `StepCase`s, if chosen."""
        if "step" not in self.sets:
            return []
        # Imported here: detectors need packages that the operators do not.
        from suites.perf.step_sets import OPERATOR_BATCH, OPERATOR_SIDE, operator_cases

        cases = operator_cases(OPERATOR_BATCH, OPERATOR_SIDE, "bfloat16")
        return [case for case in cases if case.operator in self.implementations]

    def pool_cases(self) -> list[PoolCase]:
        """The RoI poolings with the bins of a box head and of a mask head, if chosen."""
        if "pools" not in self.sets:
            return []
        kinds = {**dict.fromkeys(OPERATORS, PoolCase), pyramids.OPERATOR: pyramids.PyramidCase}
        return [
            kind(op, bins, name, dtype, passes, self.device)
            for op, kind in kinds.items()
            for bins in (7, 14)
            for name in ("dcnv2", "portable", "roi_align")
            for dtype in self.dtypes
            for passes in self.passes
            if passes != "both"
            if name == "roi_align" or name in self.implementations
            # On a GPU's workload the portable path would measure the allocator.
            if name != "portable" or not self.device.startswith("cuda")
            if dtype != "tf32" and not (name == "roi_align" and dtype == "bf16")
        ]

    def nms_cases(self) -> list[NmsCase]:
        """Batched non-maximum suppression of proposals and detections, if chosen."""
        if "nms" not in self.sets or "fp32" not in self.dtypes or "forward" not in self.passes:
            return []
        gpu = self.device.startswith("cuda")
        return [
            NmsCase(load, name, self.device)
            for load in (GPU if gpu else CPU)
            for name in ("dcnv2", "portable", "torchvision")
            if name in self.implementations
            # On a GPU the portable path would measure its thousands of launches.
            if name != "portable" or not gpu
        ]


def thread_counts() -> list[int]:
    """Powers of two up to torch's number of threads, and that number, at most 16."""
    most = min(torch.get_num_threads(), MOST_THREADS)
    return sorted({most, *(n for n in (1, 2, 4, 8, 16) if n <= most)})


def measure(
    case: Case | PoolCase | NmsCase,
    timer: DeviceTimer,
    ceilings: Ceilings,
    benchmark,
    threads: int | None = None,
) -> dict[str, object]:
    """Time a case on the device, and by pytest-benchmark on the host's clock; return its row."""
    with matmul_mode(case.dtype), limited_threads(threads):
        call = getattr(case.problem(timer.device), case.passes)
        rounds = timer.warm_up(call)
        cold = percentiles(timer.times_ms(call, rounds, cold=True))
        warm = percentiles(timer.times_ms(call, rounds, cold=False))
        workspace = workspace_mib(call, timer.device)

        def until_done() -> None:
            call()
            timer.synchronize()

        def begin_cold() -> None:
            timer.flush()
            timer.synchronize()

        benchmark.group = f"{case.name} {case.passes}"
        benchmark.pedantic(until_done, setup=begin_cold, rounds=min(rounds, 3), iterations=1)
    row = case.identity() | _named("cold", cold) | _named("warm", warm)
    row |= _rates(case, ceilings, cold[1] / 1e3)
    if not benchmark.disabled:
        row["host_ms"] = statistics.median(benchmark.stats.stats.data) * 1e3
    row["workspace_mib"] = workspace
    benchmark.extra_info.update(row)
    return row


def _named(cache: str, times: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((f"{cache}_{p}_ms" for p in ("p20", "p50", "p80")), times, strict=True))


def _rates(case: Case | PoolCase | NmsCase, ceilings: Ceilings, seconds: float) -> dict[str, float]:
    gbps = case.moved_bytes() / seconds / 1e9
    rates = {"gbps": gbps, "bandwidth_share": gbps / ceilings.copy_gbps()}
    if flops := case.flops():
        tflops = flops / seconds / 1e12
        rates |= {"tflops": tflops, "matmul_share": tflops / ceilings.matmul_tflops(case.dtype)}
    return rates
