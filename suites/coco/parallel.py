# SPDX-License-Identifier: BSD-3-Clause
"""Several trainings at a time, a core each: small steps gain little from a second thread."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TextIO, TypeVar

import torch

Result = TypeVar("Result")


class NamedLines(io.TextIOBase):
    """What one run says among others: its name before each line, and no progress bar."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self.stream, self.name, self._begun = stream, name, ""

    def write(self, text: str) -> int:
        """Passes whole lines on, at once; the beginning of one waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        self.stream.write("".join(f"{self.name}: {line}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        """Flushes the stream below."""
        self.stream.flush()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(
    calls: Mapping[str, tuple[Callable[..., Result], tuple[Any, ...]]], jobs: int
) -> dict[str, Result]:
    """Runs named calls, at most `jobs` at a time, each in a process with its share of the cores.

    Args:
        calls: a function of a module and its operands, by name; the longest first.
        jobs: 1 runs them here, one after the other.

    Returns:
        Results by name, in the order of `calls`. The first error of a call is raised.
    """
    if jobs == 1:
        return {name: function(*operands) for name, (function, operands) in calls.items()}
    threads = max(cores() // jobs, 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent) as pool:
        futures = {
            name: pool.submit(_call, name, threads, function, operands)
            for name, (function, operands) in calls.items()
        }
        try:
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Has this process end where its parent was killed: it would wait for more calls for ever."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _call(name: str, threads: int, function: Callable, operands: tuple) -> Any:
    torch.set_num_threads(threads)
    sys.stderr = NamedLines(sys.__stderr__, name)
    return function(*operands)
