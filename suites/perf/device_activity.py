# SPDX-License-Identifier: BSD-3-Clause
"""What a call asks of the GPU: its time at work, launches, and waits of the host for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def device_activity(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Profiles calls on a GPU, one after the other without a wait between them.

    Args:
        call: what is profiled; it has been warmed up.
        calls: how often it is called.

    Returns:
        Per call: `gpu_ms`, the time in which the GPU works; `launches` of kernels and graphs; and
        `waits`, in which the host waits for the GPU.
    """
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    totals = activity_of(profiler.events())
    totals["waits"] -= 1  # the one of this function
    return {name: total / calls for name, total in totals.items()}


def activity_of(events: Iterable[Any]) -> dict[str, float]:
    """Returns the totals of a profile's events, whose times are in microseconds."""
    busy, launches, waits = [], 0, 0
    for event in events:
        if event.device_type == DeviceType.CUDA:
            busy.append((event.time_range.start, event.time_range.end))
        else:
            launches += event.name.startswith(_LAUNCHES)
            waits += event.name.startswith(_WAITS)
    return {"gpu_ms": covered(busy) / 1e3, "launches": launches, "waits": waits}


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Returns the length of the union of spans (start, end): work on two streams counts once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
