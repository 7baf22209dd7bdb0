# SPDX-License-Identifier: BSD-3-Clause
"""Copies to a device that the host does not wait for, and what tracing makes of sizes."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Moves a tensor; a copy to CUDA goes through page-locked memory and does not block."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        return pinned.to(device, non_blocking=True)
    return tensor.to(device)


def is_tracing() -> bool:
    """Whether `torch.jit.trace` or an ONNX export runs: sizes are tensors then, not numbers."""
    return torch._C._get_tracing_state() is not None
