# SPDX-License-Identifier: BSD-3-Clause
"""The limits of a machine that times are compared with: copy bandwidth and matmul throughput."""

import torch

from suites.perf.device_timer import DeviceTimer
from suites.perf.problems import DTYPES, matmul_mode


class Ceilings:
    """Measures each limit of one device on its first use.

    Attributes:
        measured: GB/s under 'copy', TFLOP/s under dtype labels.
    """

    def __init__(self, timer: DeviceTimer):
        self._timer = timer
        self.measured: dict[str, float] = {}

    def copy_gbps(self) -> float:
        """Bandwidth of a large copy, bytes read and written, in GB/s."""
        if "copy" not in self.measured:
            timer = self._timer
            source = torch.randn(2**28 if timer.gpu else 2**25, device=timer.device)
            target = torch.empty_like(source)
            milliseconds = timer.median_ms(lambda: target.copy_(source), cold=False)
            self.measured["copy"] = 2 * source.nbytes / milliseconds / 1e6
        return self.measured["copy"]

    def matmul_tflops(self, dtype: str) -> float:
        """Rate of a large square matrix product in TFLOP/s, by dtype label."""
        if dtype not in self.measured:
            timer = self._timer
            side = 1024 if not timer.gpu else 4096 if dtype in ("fp32", "fp64") else 8192
            left, right = (
                torch.randn(side, side, device=timer.device).to(DTYPES[dtype]) for _ in range(2)
            )
            with matmul_mode(dtype):
                milliseconds = timer.median_ms(lambda: left @ right, cold=False)
            self.measured[dtype] = 2 * side**3 / milliseconds / 1e9
        return self.measured[dtype]
