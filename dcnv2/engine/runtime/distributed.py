# SPDX-License-Identifier: BSD-3-Clause
"""The processes that train together: those that torchrun started, or this one only."""

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
    """This process among those of a run, and the collectives that the run needs.

    Every rank has to call a collective, in the same order. With one process they do nothing.

    Attributes:
        device: where this process computes.
        rank: its number; rank 0 writes the run's files.
        world_size: number of processes.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Returns the elementwise mean over all ranks."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def maximum(self, values: Tensor) -> Tensor:
        """Returns the elementwise maximum over all ranks."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def gather(self, value: Any) -> list[Any] | None:
        """Returns the values of all ranks in order on rank 0, None on the others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_main else None
        dist.gather_object(value, values)
        return values

    def broadcast(self, value: Any) -> Any:
        """Returns rank 0's value on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]


def record_for_torchrun(error: BaseException) -> None:
    """Adds the error to the table of failures that torchrun prints, if torchrun started this rank.

    torchrun exits with 1 whatever the ranks return; only this table tells a saved run from a
    failed one.
    """
    if dist.is_torchelastic_launched():
        get_error_handler().record_exception(error)


# destroy_process_group joins gloo's threads while it holds the GIL, and those threads need the GIL
# to release the tensors of a collective that has just ended: a deadlock. Sleeping releases the GIL.
_RELEASE_GIL_S = 0.2


@contextlib.contextmanager
def init_distributed(device: str, timeout_minutes: float = 30.0) -> Iterator[Communicator]:
    """Joins the processes that torchrun started, with NCCL for tensors on CUDA and gloo for others.

    Args:
        device: as for `pick_device`; a CUDA rank takes the device of its local rank.
        timeout_minutes: how long a collective waits for other ranks before it raises.

    Yields:
        The communicator; that of a single process if torchrun did not start this one.

    Raises:
        ValueError: there is no such device.
    """
    chosen = pick_device(device)
    if not dist.is_torchelastic_launched():
        yield Communicator(chosen)
        return
    backend = "gloo"
    if chosen.type == "cuda":
        # Tensors on the CPU, such as flags, do not wait for what the GPU has to do.
        backend, local = "cpu:gloo,cuda:nccl", dist.get_node_local_rank()
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"local rank {local} has no GPU: this machine has {torch.cuda.device_count()}; "
                "start one process per GPU with --nproc-per-node"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
    try:
        yield Communicator(chosen, dist.get_rank(), dist.get_world_size())
    finally:
        time.sleep(_RELEASE_GIL_S)
        dist.destroy_process_group()
