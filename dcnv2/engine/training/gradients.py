# SPDX-License-Identifier: BSD-3-Clause
"""Gradients of a model in one piece of memory, which ranks exchange in one call."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dcnv2.engine.runtime.distributed import Communicator

# Elements. Kernels take other paths for tensors that begin in the middle of 16 bytes, and a norm of
# such a gradient is summed in another order.
ALIGNMENT = 64


class GradientBuffer:
    """Memory for the gradients of parameters of one dtype on one device.

    Args:
        parameters: those that are trained.

    Attributes:
        of: the place of each parameter's gradient, in the layout of the parameter.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        parameters = [p for p in parameters if p.requires_grad]
        sizes = [-(-p.numel() // ALIGNMENT) * ALIGNMENT for p in parameters]
        self._memory = parameters[0].new_zeros(sum(sizes))
        self.of: dict[nn.Parameter, Tensor] = {
            parameter: self._memory.as_strided(parameter.shape, parameter.stride(), begin)
            for parameter, begin in zip(parameters, accumulate([0, *sizes]), strict=False)
        }

    def exchange(self, comm: Communicator) -> None:
        """Makes every gradient the mean over all ranks; the same ones exist on each rank."""
        found = [(p, p.grad) for p in self.of if p.grad is not None]
        moved = [(p, gradient) for p, gradient in found if gradient is not self.of[p]]
        if moved:
            torch._foreach_copy_(
                [self.of[p] for p, _ in moved], [gradient for _, gradient in moved]
            )
            for parameter, _ in moved:
                parameter.grad = self.of[parameter]
        self._memory /= comm.world_size
        dist.all_reduce(self._memory)


def share_state(model: nn.Module) -> None:
    """Gives a model the parameters and buffers of rank 0."""
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, 0)
