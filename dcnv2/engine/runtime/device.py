# SPDX-License-Identifier: BSD-3-Clause
"""Chooses the device of a run."""

import torch


def pick_device(name: str) -> torch.device:
    """Returns the device of that name; `auto` is CUDA if available, else the CPU.

    Raises:
        ValueError: PyTorch does not know the name, or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: cannot use {name!r}: {reason}") from None
    if device.type == "meta":
        raise ValueError(f"device: cannot use {name!r}: its tensors have no values")
    return device
