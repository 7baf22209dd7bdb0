# SPDX-License-Identifier: BSD-3-Clause
"""Conditions that one rank notices and on which all ranks have to act in the same step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcnv2.engine.runtime.distributed import Communicator


def any_rank(flags: Sequence[bool], comm: Communicator) -> list[bool]:
    """Returns for each flag whether any rank set it; every rank has to call this.

    A rank that left the loop by itself would leave the others waiting in their next collective.
    """
    if comm.world_size == 1:
        return list(flags)  # without a wait for the device
    own = torch.tensor(flags, dtype=torch.float32, device=comm.device)
    return [value > 0 for value in comm.maximum(own).tolist()]


def mean_with_flag(values: Tensor, flag: Tensor, comm: Communicator) -> tuple[list[float], bool]:
    """Averages over ranks and exchanges a flag, in one collective and one wait for the device.

    Args:
        values: [K], this rank's numbers, on the communicator's device.
        flag: bool [], on the same device.
        comm: the ranks; every rank has to call this.

    Returns:
        The means, and whether any rank set the flag. The flag travels in an element of its own, so
        it is right even if a value is NaN or infinite.
    """
    *means, share = comm.mean(torch.cat([values, flag.to(values.dtype).reshape(1)])).tolist()
    return means, share > 0
