# SPDX-License-Identifier: BSD-3-Clause
"""Conditions that one rank notices and on which all ranks have to act in the same step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from dcnv2.engine.runtime.distributed import Communicator


@dataclass(frozen=True)
class RankFlags:
    """Flags of this rank; `agree` returns those of all ranks.

    A rank that left the loop by itself would leave the others waiting in their next collective.

    Attributes:
        stop: a signal asked this rank to stop.
        nonfinite: a term of the loss is NaN or infinite.
    """

    stop: bool = False
    nonfinite: bool = False

    def agree(self, comm: Communicator) -> RankFlags:
        """Returns flags that are set if any rank set them; every rank has to call this."""
        own = torch.tensor([*dataclasses.astuple(self)], dtype=torch.float32, device=comm.device)
        return RankFlags(*(value > 0 for value in comm.maximum(own).tolist()))
