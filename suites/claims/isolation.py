# SPDX-License-Identifier: BSD-3-Clause
"""Runs what may read outside its memory in a process of its own.

A layout or a non-finite offset makes some implementations crash; a crash is a verdict on one claim,
not the suite's end. On a GPU a read outside of memory ends the process's use of the GPU: what came
after it would fail for no fault of its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import pytest
import torch

from suites.backends.registry import Target
from suites.claims.recorder import RECORDER

T = TypeVar("T")
_TIMEOUT_S = 120
_apart = False  # whether this is a process that was forked here
_shared = False  # whether this process uses the GPU itself


def risky(target: Target) -> bool:
    """Whether an implementation may take this process with it: a peer's."""
    return not _safe(target) and not _apart and (target.device == "cpu" or gpu_in_forks())


def _safe(target: Target) -> bool:
    return getattr(target.backend, "safe", target.backend.ours)


def plan(targets: Iterable[Target]) -> None:
    """Say what a run will judge: if on a GPU some of it here, then all of it."""
    global _shared
    _shared = any(target.device == "cuda" and _safe(target) for target in targets)


@lru_cache
def gpu_in_forks() -> bool:
    """Whether forked processes can use the GPU: as long as this one does not touch it."""
    if _shared:
        return False
    try:
        return forked(lambda: torch.ones(1, device="cuda").item() == 1)
    except AssertionError:
        return False


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
def isolated_check(check: Callable[..., None], target: Target) -> Iterator[Callable[..., None]]:
    """A check of a target that can be called again and again, a risky one in a forked process.

    It raises what the check does, or AssertionError if the process dies or hangs. The recorder
    receives what the check records.
    """
    if not risky(target):
        yield check
        return
    _expect_untouched(target)
    worker = _Worker(lambda given: _outcome(check, given))

    def run(*given: Any) -> None:
        (outcome, message), snapshot, lost = worker.ask(given)
        RECORDER.merge(snapshot)
        if lost:
            worker.close()
        if outcome == "skipped":
            pytest.skip(message)
        assert outcome == "passed", message

    try:
        yield run
    finally:
        worker.close()


def check_isolated(check: Callable[[], None], target: Target) -> None:
    """Run a check once, as `isolated_check` does."""
    with isolated_check(check, target) as run:
        run()


def _outcome(check: Callable[..., None], given: tuple) -> tuple[tuple[str, str], dict, bool]:
    RECORDER.clear()
    try:
        check(*given)
        outcome = ("passed", "")
    except pytest.skip.Exception as skip:
        outcome = ("skipped", str(skip))
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        outcome = ("failed", f"{kind}{error}")
    return outcome, RECORDER.snapshot(), outcome[0] == "failed" and gpu_lost()


def run_isolated(run: Callable[[], T], target: Target) -> T:
    """What a function returns, of a risky target from a forked process.

    Raises:
        AssertionError: if the process dies, hangs, or raises.
    """
    if not risky(target):
        return run()
    _expect_untouched(target)
    return forked(run)


def _expect_untouched(target: Target) -> None:
    """Stop a run whose verdicts would be of this suite: it took the GPU from its processes."""
    if target.device == "cuda" and torch.cuda.is_initialized():
        pytest.exit(
            "the suite itself has touched the GPU: no process forked from here can use it", 3
        )


def forked(work: Callable[[], Any]) -> Any:
    """What a function returns in a forked process.

    Raises:
        AssertionError: if the process dies, hangs, or raises.
    """
    worker = _Worker(lambda _: work())
    try:
        return worker.ask(None)
    finally:
        worker.close()


class _Worker:
    """A forked process that answers questions by a function; another one once it has died."""

    def __init__(self, answer: Callable[[Any], Any]):
        self._answer = answer
        self._process = self._pipe = None

    def ask(self, question: Any) -> Any:
        """The function's answer.

        Raises:
            AssertionError: if the process dies, hangs, or the function raises.
        """
        if self._process is None:
            context = multiprocessing.get_context("fork")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs, self._answer), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send_bytes(_packed(question))
            answer = self._pipe.recv_bytes() if self._pipe.poll(_TIMEOUT_S) else None
        except (EOFError, ConnectionError):
            self._process.join()
            died = f"the process died with exit code {self._process.exitcode}"
            self.close()
            raise AssertionError(died) from None
        if answer is None:
            self.close()
            raise AssertionError(f"no answer in {_TIMEOUT_S} s")
        returned, result = _unpacked(answer)
        assert returned, result
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _work(pipe: Connection, answer: Callable[[Any], Any]) -> None:
    global _apart
    _apart = True
    faulthandler.disable()  # the parent reports the crash
    torch.set_num_threads(1)  # threads of the parent do not survive a fork
    while True:
        question = _unpacked(pipe.recv_bytes())
        try:
            result = (True, answer(question))
        except Exception as error:  # whatever it is, the parent reports it
            result = (False, f"{type(error).__name__}: {error}")
        pipe.send_bytes(_packed(result))


def _packed(value: Any) -> bytes:
    """Tensors too, which a pipe would send through shared memory."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _unpacked(data: bytes) -> Any:
    """Tensors on the CPU, wherever they were: the parent leaves the GPU alone."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
