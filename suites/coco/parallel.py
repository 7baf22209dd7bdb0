# SPDX-License-Identifier: BSD-3-Clause
"""Runs calls in processes of their own, several at a time, and ends all of them on a signal.

Small training steps gain little from a second thread, so every call gets its share of the cores.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from dcnv2.engine.runtime.signals import RunStoppedError
from suites.reporting.folders import ROOT

# Time that processes get to save their state before they are killed.
GRACE_S = 6.0
_POLL_S = 0.2

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of an importable module, and its operands."""


class StopRequest:
    """Notes SIGINT and SIGTERM, however often they come; a context manager.

    Later signals change nothing: the end is bounded by `GRACE_S` from the first one.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> StopRequest:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.received = self.received or signal.Signals(number)

    def check(self) -> None:
        """Raise `RunStoppedError` once a signal has come."""
        if self.received is not None:
            print(f"{self.received.name}: saving, for {GRACE_S:g} s at most", file=sys.stderr)
            raise RunStoppedError(f"stopped by {self.received.name}")


class Child:
    """A call in a new session: a Ctrl-C in the terminal reaches only the parent, which ends it.

    The session also ends if the parent is killed, as its standard input is closed then.
    """

    def __init__(self, call: Call, threads: int, log: Path) -> None:
        self.log = log
        self._results = tempfile.TemporaryFile()  # noqa: SIM115 closed in `end`
        path = os.pathsep.join(filter(None, [str(ROOT), *sys.path]))
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "suites.coco.parallel"],
                stdin=subprocess.PIPE,
                stdout=self._results,
                stderr=output,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is noticed by `running`
            pickle.dump((threads, *call), self._process.stdin)
            self._process.stdin.flush()

    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def result(self) -> Any:
        """What the call returned, after its end; an error of the call is raised."""
        self._results.seek(0)
        try:
            succeeded, value = pickle.load(self._results)
        except (EOFError, pickle.UnpicklingError):
            status = self._process.returncode
            raise RuntimeError(f"exit status {status} without a result, see {self.log}") from None
        if not succeeded:
            raise value
        return value

    def terminate(self) -> None:
        """Ask the call to save its state and to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def end(self) -> None:
        """Kill what is left of the session, loader processes included."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._results.close()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(
    calls: Mapping[str, Call],
    jobs: int,
    folder: Path,
    stop: StopRequest,
    watch: Callable[[Collection[str], Collection[str]], None] = lambda running, done: None,
) -> dict[str, Any]:
    """Run named calls, at most `jobs` at a time, each in a process with its share of the cores.

    Args:
        calls: The calls by name, the longest first.
        jobs: Number of processes.
        folder: The output of a call goes to a text file of its name there.
        stop: Ends the calls once a signal has come.
        watch: Called again and again with the names of the running and the finished calls.

    Returns:
        Results by name, in the order of `calls`.

    Raises:
        RunStoppedError: A signal came. All processes have ended; those that could save their state
            in `GRACE_S` have done so.
        Exception: The first error of a call.
    """
    threads = max(cores() // jobs, 1)
    waiting, running, results = dict(calls), {}, {}
    try:
        while waiting or running:
            stop.check()
            while waiting and len(running) < jobs:
                name = next(iter(waiting))
                running[name] = Child(waiting.pop(name), threads, folder / f"{name}.txt")
            watch(list(running), list(results))
            time.sleep(_POLL_S)
            for name in [name for name, child in running.items() if not child.running()]:
                results[name] = running[name].result()
                running.pop(name).end()
    finally:
        _end_all(list(running.values()))
    stop.check()
    watch([], list(results))
    return {name: results[name] for name in calls}


def _end_all(children: Collection[Child]) -> None:
    for child in children:
        child.terminate()
    until = time.monotonic() + GRACE_S
    while any(child.running() for child in children) and time.monotonic() < until:
        time.sleep(_POLL_S / 4)
    for child in children:
        child.end()


def _run_call() -> None:
    """The child: reads a call from standard input and writes its result to standard output."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the call prints goes to the log
    threads, function, operands = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        outcome = True, function(*operands)
    except Exception as error:
        traceback.print_exc()
        outcome = False, error
    with results:
        pickle.dump(outcome, results)


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the parent closes its end, or is killed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _run_call()
