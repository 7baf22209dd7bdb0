# SPDX-License-Identifier: BSD-3-Clause
"""Conditions that one rank notices and on which all ranks have to act in the same step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dcnv2.engine.runtime.distributed import Communicator


def any_rank(flags: Sequence[bool], comm: Communicator) -> list[bool]:
    """Returns for each flag whether any rank set it; every rank has to call this.

    A rank that left the loop by itself would leave the others waiting in their next collective.
    The flags are exchanged by the hosts, which do not wait for their devices.
    """
    own = torch.tensor(flags, dtype=torch.float32)
    return [value > 0 for value in comm.maximum(own).tolist()]
