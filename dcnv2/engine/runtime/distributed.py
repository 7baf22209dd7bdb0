# SPDX-License-Identifier: BSD-3-Clause
"""Processes that train together: those of torchrun, or this one alone."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from dcnv2.engine.runtime.device import pick_device


@dataclass(frozen=True)
class Communicator:
    """This process among those of a run.

    Attributes:
        device: where this one computes.
        rank: its number; the first one, 0, writes what the run leaves behind.
        world_size: how many there are.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks, on each; NaN or infinite on each where it is on one."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def gather(self, value: Any) -> list[Any] | None:
        """The values of all ranks in order on the first one, None on the others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_main else None
        dist.gather_object(value, values)
        return values

    def broadcast(self, value: Any) -> Any:
        """The first rank's value, on each."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]


def record_for_torchrun(error: BaseException) -> None:
    """Has torchrun's table of failures show the error that is being handled, if torchrun is there.

    Its own exit status is 1 whatever the ranks' are: that table tells a run that was saved from one
    that broke.
    """
    if dist.is_torchelastic_launched():
        get_error_handler().record_exception(error)


# Gloo's threads need the interpreter to let go of a collective's tensors, and a group that is
# destroyed waits for its threads without giving the interpreter away: after a last collective that
# has only just ended, for ever. Asleep, this thread gives it away.
_LET_GO_SECONDS = 0.2


@contextlib.contextmanager
def init_distributed(device: str, timeout_minutes: float = 30.0) -> Iterator[Communicator]:
    """Joins the processes that torchrun started, by NCCL on CUDA, else by gloo; or none.

    Args:
        device: as for `pick_device`; a CUDA rank takes the device of its local number.
        timeout_minutes: how long to wait for other ranks before an error.

    Raises:
        ValueError: no such device.
    """
    chosen = pick_device(device)
    if not dist.is_torchelastic_launched():
        yield Communicator(chosen)
        return
    backend = "gloo"
    if chosen.type == "cuda":
        backend, local = "nccl", dist.get_node_local_rank()
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"local rank {local} has no GPU: this machine has {torch.cuda.device_count()}; "
                "start as many processes with --nproc-per-node"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
    try:
        yield Communicator(chosen, dist.get_rank(), dist.get_world_size())
    finally:
        time.sleep(_LET_GO_SECONDS)
        dist.destroy_process_group()
