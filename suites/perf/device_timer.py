# SPDX-License-Identifier: BSD-3-Clause
"""The clock of every benchmark: device time with cold or warm caches, and the host's time."""

import time
from collections.abc import Callable
from typing import Any

import torch

_HEAD_START_CYCLES = 1_000_000  # half a millisecond: longer than the host part of a compiled call
_CPU_CACHE_BYTES = 32 * 2**20
_WARM_UPS = 2


class DeviceTimer:
    """Times calls on one device.

    Args:
        device: 'cpu' or a CUDA device.
        budget_s: Approximate duration of one measurement.
    """

    def __init__(self, device: str, budget_s: float | None = None):
        self.device = device
        self.gpu = device.startswith("cuda")
        self.budget_s = budget_s or (0.06 if self.gpu else 0.3)
        self._rounds = (5, 30) if self.gpu else (3, 20)
        cache = torch.cuda.get_device_properties(device).L2_cache_size if self.gpu else None
        self._filler = torch.empty(4 * (cache or _CPU_CACHE_BYTES), dtype=torch.int8, device=device)

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def flush(self) -> None:
        """Evict everything else from the caches."""
        self._filler.zero_()

    def warm_up(self, call: Callable) -> int:
        """Run a call until its time is steady; return how many rounds the budget allows."""
        for _ in range(_WARM_UPS if self.gpu else 1):
            call()
        seconds = max(self._wall_s(call)[0], 1e-9)
        fewest, most = self._rounds
        return min(max(int(self.budget_s / seconds), fewest), most)

    def times_ms(self, call: Callable, rounds: int, cold: bool) -> list[float]:
        """Time of each of `rounds` calls in milliseconds, the caches flushed before each if `cold`.

        GPU times are between events. The device is kept busy before the first event, so that the
        host's work for a call is done by then and is not part of the time.
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

    def median_ms(self, call: Callable, cold: bool) -> float:
        """Median time of a call, after its warm-up."""
        return percentiles(self.times_ms(call, self.warm_up(call), cold))[1]

    def wall_times_ms(
        self, call: Callable, seconds: float, fewest: int
    ) -> tuple[list[float], list[Any]]:
        """Times by the host's clock, each call between two synchronizes, and what calls return.

        Args:
            call: What is timed; the caller has warmed it up.
            seconds: Total time after which no further call is made.
            fewest: Least number of calls.
        """
        times, results = [], []
        while len(times) < fewest or sum(times) < seconds * 1e3:
            passed, result = self._wall_s(call)
            times.append(passed * 1e3)
            results.append(result)
        return times, results

    def host_us(self, call: Callable, batches: int = 20, size: int = 25) -> list[float]:
        """Host overhead of a call in microseconds: the call returns before the device is done."""
        samples = []
        for _ in range(batches):
            self.synchronize()
            begin = time.perf_counter()
            for _ in range(size):
                call()
            samples.append((time.perf_counter() - begin) / size * 1e6)
        self.synchronize()
        return samples

    def _host_ms(self, call: Callable, cold: bool) -> float:
        if cold:
            self.flush()
        return self._wall_s(call)[0] * 1e3

    def _wall_s(self, call: Callable) -> tuple[float, Any]:
        self.synchronize()
        begin = time.perf_counter()
        result = call()
        self.synchronize()
        return time.perf_counter() - begin, result


def percentiles(samples: list[float]) -> tuple[float, float, float]:
    """The 20th, 50th and 80th percentile."""
    quantiles = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    p20, p50, p80 = torch.tensor(samples, dtype=torch.float64).quantile(quantiles).tolist()
    return p20, p50, p80
