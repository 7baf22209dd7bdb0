# SPDX-License-Identifier: BSD-3-Clause
"""Runs an implementation that may crash in a worker process, so that a crash fails one claim only.

A layout or a non-finite offset makes some implementations read outside their memory. On a GPU that
ends the process's use of the device: every later claim would fail as well. Workers are forked from
a server that has imported torch and done nothing else, because a process that has run autograd or
CUDA cannot be forked.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from suites.backends.registry import Target
from suites.claims.session import CheckedTarget
from suites.claims.transfer import from_bytes, to_bytes
from suites.problems.evaluate import NoGradientsError

T = TypeVar("T")
_TIMEOUT_S = 120
_PRELOADED = ["torch", "pytest", "suites.claims.isolation"]  # by the server, once for all workers


def risky(target: Target) -> bool:
    """Whether an implementation may crash this process: a peer's, outside of a worker."""
    safe = getattr(target.backend, "safe", target.backend.ours)
    return not safe and multiprocessing.parent_process() is None


def gpu_lost() -> bool:
    """Whether an error has ended this process's use of the GPU."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


@contextlib.contextmanager
def isolated_check(
    check: Callable[..., None], target: CheckedTarget
) -> Iterator[Callable[..., None]]:
    """A check of a target that can be called repeatedly; a risky target's runs in a worker.

    It raises what the check raises, or AssertionError if the worker dies or hangs. What the check
    records reaches the target's session.
    """
    if not risky(target):
        yield functools.partial(_check_here, check, target)
        return
    worker = Worker()

    def run(*arguments: Any) -> None:
        (outcome, message), snapshot, lost = worker.call(_outcome, check, target, arguments)
        target.session.recorder.merge(snapshot)
        if lost:
            worker.close()
        if outcome == "skipped":
            pytest.skip(message)
        assert outcome == "passed", message

    try:
        yield run
    finally:
        worker.close()


def _check_here(check: Callable[..., None], target: CheckedTarget, *arguments: Any) -> None:
    """Run a check in this process; one that uses missing gradients is unsupported."""
    try:
        check(*arguments)
    except NoGradientsError as error:
        target.session.recorder.current.unsupported[str(error)] += 1
        pytest.skip(f"unsupported: {error}")


def check_isolated(check: Callable[[], None], target: CheckedTarget) -> None:
    """Run a check once, as `isolated_check` does."""
    with isolated_check(check, target) as run:
        run()


def _outcome(check: Callable[..., None], target: CheckedTarget, arguments: tuple) -> tuple:
    """Runs in the worker: outcome and message, what was recorded, whether the GPU is lost."""
    try:
        check(*arguments)
        outcome = ("passed", "")
    except pytest.skip.Exception as skip:
        outcome = ("skipped", str(skip))
    except NoGradientsError as error:
        target.session.recorder.current.unsupported[str(error)] += 1
        outcome = ("skipped", f"unsupported: {error}")
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        outcome = ("failed", f"{kind}{error}")
    lost = outcome[0] == "failed" and gpu_lost()
    return outcome, target.session.recorder.snapshot(), lost


def run_isolated(function: Callable[[], T], target: Target) -> T:
    """Return what a function returns; it runs in a worker if the target is risky.

    Raises:
        AssertionError: if the worker dies or hangs, or the function raises there.
    """
    if not risky(target):
        return function()
    worker = Worker()
    try:
        return worker.call(function)
    finally:
        worker.close()


def log_workers(path: Path) -> None:
    """Write what every worker prints to a file; call it before the first worker starts."""
    standard = (1, 2)
    kept = [os.dup(number) for number in standard]
    with path.open("w") as log:
        try:
            for number in standard:
                os.dup2(log.fileno(), number)
            _set_preloaded()
            forkserver.ensure_running()  # workers inherit the server's output
        finally:
            for number, copy in zip(standard, kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def _set_preloaded() -> multiprocessing.context.ForkServerContext:
    # Most adapters import torchvision, which takes a second and does nothing else.
    heavy = [name for name in ("torchvision",) if name in sys.modules]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOADED, *heavy])
    return context


class Worker:
    """A process that calls functions for this one; it is replaced after it has died."""

    def __init__(self):
        self._process = self._pipe = None

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the function returns.

        Raises:
            AssertionError: if the process dies or hangs, or the function raises.
        """
        if self._process is None:
            self._start()
        try:
            self._pipe.send_bytes(to_bytes((function, arguments)))
            answer = self._pipe.recv_bytes() if self._pipe.poll(_TIMEOUT_S) else None
        except (EOFError, ConnectionError):
            self._process.join()
            died = f"the process died with exit code {self._process.exitcode}"
            self.close()
            raise AssertionError(died) from None
        if answer is None:
            self.close()
            raise AssertionError(f"no answer within {_TIMEOUT_S} s")
        returned, result = from_bytes(answer)
        assert returned, result
        return result

    def _start(self) -> None:
        context = _set_preloaded()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Connection) -> None:
    faulthandler.disable()  # the other process reports a crash
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    while True:
        question = pipe.recv_bytes()
        try:
            function, arguments = from_bytes(question)
            answer = (True, function(*arguments))
        except Exception as error:
            answer = (False, f"{type(error).__name__}: {error}")
        pipe.send_bytes(to_bytes(answer))
