# SPDX-License-Identifier: BSD-3-Clause
"""Peak memory of a call, beyond its operands and results."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch


def workspace_mib(call: Callable, device: str) -> float | None:
    """Peak memory of a call beyond what it returns, in MiB; None where it cannot be read.

    Args:
        call: Returns a tensor or a tuple of tensors.
        device: 'cpu' or a CUDA device.
    """
    if not device.startswith("cuda"):
        return _host_workspace_mib(call)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return (peak - before - _kept_bytes(result)) / 2**20


def _kept_bytes(result: torch.Tensor | tuple[torch.Tensor, ...]) -> int:
    results = result if isinstance(result, tuple) else (result,)
    return sum(t.untyped_storage().nbytes() for t in results)


def _host_workspace_mib(call: Callable) -> float | None:
    """Largest growth of the process's resident memory during a call, without its results.

    Memory that the allocator holds is returned to the system first; otherwise the call would reuse
    it and the growth would not show. Only Linux reports the peak, and only glibc returns memory.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _resident_bytes("VmRSS")
        result = call()
        peak = _resident_bytes("VmHWM")
    except (AttributeError, OSError):
        return None
    return max(peak - before - _kept_bytes(result), 0) / 2**20


def _resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
