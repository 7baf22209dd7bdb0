# SPDX-License-Identifier: BSD-3-Clause
"""Seeds PyTorch's generators."""

from __future__ import annotations

import torch


def set_seed(seed: int, device: torch.device | None = None) -> None:
    """Seeds the CPU's generator and that of one CUDA device.

    `torch.manual_seed` also queries every other kind of device, which takes a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
