# SPDX-License-Identifier: BSD-3-Clause
"""Clocks and gauges: device time with cold or warm caches, peak memory, a machine's ceilings."""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch

from suites.perf.problems import DTYPES, matmul_mode

_HEAD_START_CYCLES = 1_000_000  # half a millisecond: longer than a compiled call keeps the host
_CPU_CACHE_BYTES = 32 * 2**20
_WARM_UPS = 2


class Gauge:
    """Measures calls on one device.

    Args:
        device: 'cpu' or a CUDA device.
        budget_s: About how long the rounds of one measurement may take.
    """

    def __init__(self, device: str, budget_s: float | None = None):
        self.device = device
        self.gpu = device.startswith("cuda")
        self.budget_s = budget_s or (0.06 if self.gpu else 0.3)
        self._rounds = (5, 30) if self.gpu else (3, 20)
        cache = torch.cuda.get_device_properties(device).L2_cache_size if self.gpu else None
        self._filler = torch.empty(4 * (cache or _CPU_CACHE_BYTES), dtype=torch.int8, device=device)
        self._ceilings: dict[str, float] = {}

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def flush(self) -> None:
        """Push everything else out of the caches."""
        self._filler.zero_()

    def warm_up(self, call: Callable) -> int:
        """Run a call until it is in its stride, and say how many rounds the budget allows."""
        for _ in range(_WARM_UPS if self.gpu else 1):
            call()
        self.synchronize()
        begin = time.perf_counter()
        call()
        self.synchronize()
        seconds = max(time.perf_counter() - begin, 1e-9)
        fewest, most = self._rounds
        return min(max(int(self.budget_s / seconds), fewest), most)

    def times_ms(self, call: Callable, rounds: int, cold: bool) -> list[float]:
        """Time of each of `rounds` calls in milliseconds, the caches flushed before each if `cold`.

        On a GPU by events. The device is kept busy before the first one, so that the host's part of
        a call runs ahead and is not in the figure.
        """
        if not self.gpu:
            return [self._host_ms(call, cold) for _ in range(rounds)]
        events = []
        for _ in range(rounds):
            torch.cuda._sleep(_HEAD_START_CYCLES)
            if cold:
                self.flush()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            events.append((begin, end))
        self.synchronize()
        return [begin.elapsed_time(end) for begin, end in events]

    def _host_ms(self, call: Callable, cold: bool) -> float:
        if cold:
            self.flush()
        begin = time.perf_counter()
        call()
        return (time.perf_counter() - begin) * 1e3

    def issue_us(self, call: Callable, batches: int = 20, size: int = 25) -> list[float]:
        """Microseconds that a call keeps the host, without waiting for the device."""
        samples = []
        for _ in range(batches):
            self.synchronize()
            begin = time.perf_counter()
            for _ in range(size):
                call()
            samples.append((time.perf_counter() - begin) / size * 1e6)
        self.synchronize()
        return samples

    def workspace_mib(self, call: Callable) -> float | None:
        """Peak memory of a call beyond what it returns, in MiB; None where it can't be read."""
        if not self.gpu:
            return _host_workspace_mib(call)
        self.synchronize()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        result = call()
        self.synchronize()
        peak = torch.cuda.max_memory_allocated(self.device)
        return (peak - before - _kept_bytes(result)) / 2**20

    def copy_gbps(self) -> float:
        """Bandwidth of a large copy, bytes read and written, in GB/s; measured once."""
        if "copy" not in self._ceilings:
            source = torch.randn(2**28 if self.gpu else 2**25, device=self.device)
            target = torch.empty_like(source)
            seconds = self._median_seconds(lambda: target.copy_(source))
            self._ceilings["copy"] = 2 * source.nbytes / seconds / 1e9
        return self._ceilings["copy"]

    def matmul_tflops(self, dtype: str) -> float:
        """Rate of a large square matrix product in TFLOP/s; measured once for each dtype label."""
        if dtype not in self._ceilings:
            side = 1024 if not self.gpu else 4096 if dtype in ("fp32", "fp64") else 8192
            left, right = (
                torch.randn(side, side, device=self.device).to(DTYPES[dtype]) for _ in range(2)
            )
            with matmul_mode(dtype):
                seconds = self._median_seconds(lambda: left @ right)
            self._ceilings[dtype] = 2 * side**3 / seconds / 1e12
        return self._ceilings[dtype]

    def ceilings(self) -> dict[str, float]:
        """What was measured: GB/s under 'copy', TFLOP/s under dtype labels."""
        return dict(self._ceilings)

    def _median_seconds(self, call: Callable) -> float:
        rounds = self.warm_up(call)
        return sorted(self.times_ms(call, rounds, cold=False))[rounds // 2] / 1e3


def _kept_bytes(result: torch.Tensor | tuple[torch.Tensor, ...]) -> int:
    results = result if isinstance(result, tuple) else (result,)
    return sum(t.untyped_storage().nbytes() for t in results)


def _host_workspace_mib(call: Callable) -> float | None:
    """By how much a call makes the process's resident memory grow at most, beyond its results.

    What the allocator holds back is given to the system first, or the call would find room in it.
    Linux alone tells the peak, and with glibc alone can memory be given back.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _resident_bytes("VmRSS")
        result = call()
        peak = _resident_bytes("VmHWM")
    except (AttributeError, OSError):
        return None
    return max(peak - before - _kept_bytes(result), 0) / 2**20


def _resident_bytes(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{which}:"))


def percentiles(samples: list[float]) -> tuple[float, float, float]:
    """The 20th, 50th and 80th percentile."""
    quantiles = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    p20, p50, p80 = torch.tensor(samples, dtype=torch.float64).quantile(quantiles).tolist()
    return p20, p50, p80
