# SPDX-License-Identifier: BSD-3-Clause
"""Work of the GPU that is recorded once and started again as CUDA graphs.

A step of a detector launches thousands of kernels, and the host takes longer to start them than
the GPU to run them. Recorded, they start together. A recording reads and writes the same memory at
every run, so it holds for one size of its operands; `RecordingCache` keeps those of the sizes that
come again and again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

# How often a size runs eagerly before it is recorded, and how many recordings are kept.
EAGER_RUNS, MOST_RECORDINGS = 2, 64

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

T = TypeVar("T")


class Recording:
    """Kernels in the order of their recording, with calls of the host between them.

    Args:
        pool: whose memory the kernels use between their operands and their results; recordings
            that do not run at the same time share one.
        stream: to record on.
    """

    def __init__(self, pool: Any, stream: torch.cuda.Stream) -> None:
        self._pool, self._stream = pool, stream
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._calls: list[Callable[[], object]] = []
        self._open: Any = None

    def record(self, function: Callable[[], T]) -> T:
        """Records what a function launches, without running it; returns its tensors."""
        self._begin()
        try:
            result = function()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the recording is void
                self._end()
            raise
        self._end()
        return result

    def call_between(self, call: Callable[[], object]) -> None:
        """From within the recorded function: have the host do a call at this point of each run."""
        self._end()
        self._calls.append(call)
        self._begin()

    def run(self) -> None:
        """Starts everything that was recorded, on the current stream."""
        first, *others = self._graphs
        first.replay()
        for call, graph in zip(self._calls, others, strict=True):
            call()
            graph.replay()

    def _begin(self) -> None:
        graph = torch.cuda.CUDAGraph()
        # Threads of the loader and of the log use the device meanwhile.
        self._open = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        self._open.__enter__()
        self._graphs.append(graph)

    def _end(self) -> None:
        context, self._open = self._open, None
        if context is not None:
            context.__exit__(None, None, None)


class OperandBuffers:
    """Memory of recorded operands, shared by all sizes: only one recording runs at a time."""

    def __init__(self) -> None:
        self._storage: dict[Hashable, Tensor] = {}

    def copy(self, name: str, tensor: Tensor) -> Tensor:
        """A copy of a tensor in the memory of this name."""
        key, count = (name, tensor.dtype, tensor.device), tensor.numel()
        known = self._storage.get(key)
        if known is None or known.numel() < count:
            # Older recordings keep the memory that they were made with.
            known = self._storage[key] = tensor.new_empty(count)
        return known[:count].view(tensor.shape).copy_(tensor)


class RecordingCache(Generic[T]):
    """Recordings by the size of their operands.

    Args:
        model: whose work is recorded. Recordings are forgotten once its tensors move, or a module
            changes between training and evaluation. While a module has hooks that cannot be
            recorded, everything runs eagerly.
        recorder: makes an empty recording.

    Attributes:
        buffers: memory of the operands of all recordings.
    """

    def __init__(self, model: nn.Module, recorder: Callable[[], Recording]) -> None:
        self._model, self._recorder = model, recorder
        self.buffers = OperandBuffers()
        self._seen: dict[Hashable, int] = {}
        self._kept: dict[Hashable, T] = {}
        self._state: Hashable = None

    def find(self, key: Hashable, record: Callable[[Recording], T]) -> T | None:
        """The recording for a key, made if the key has come often; None for an eager run.

        Args:
            key: sizes, and whatever else the host decides by.
            record: makes one.
        """
        hooks = hook_states(self._model)
        if hooks is None:
            return None
        key = (key, hooks)
        state = modes(self._model)
        if state != self._state:
            self._kept.clear()
            self._state = state
        found = self._kept.pop(key, None)
        if found is None:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] <= EAGER_RUNS:
                return None
            found = record(self._recorder())
        self._kept[key] = found  # the newest is last
        while len(self._kept) > MOST_RECORDINGS:
            del self._kept[next(iter(self._kept))]
        return found


def recorder_on(device: torch.device) -> Callable[[], Recording]:
    """Makes recordings of a GPU that share memory."""
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)
    return partial(Recording, pool, stream)


def modes(model: nn.Module) -> Hashable:
    """What kernels of a module are chosen by, besides its operands: modes and places of tensors."""
    tensors = tuple((t.data_ptr(), t.requires_grad) for t in model.parameters())
    return tensors, tuple(module.training for module in model.modules())


def hook_states(model: nn.Module) -> Hashable | None:
    """What recordings depend on by the hooks of a module; None if one cannot be recorded.

    Those that can are objects with a method `graph_state`.
    """
    states = []
    for module in model.modules():
        for kind in _HOOKS:
            for hook in getattr(module, kind).values():
                if not hasattr(hook, "graph_state"):
                    return None
                states.append(hook.graph_state())
    return tuple(states)
