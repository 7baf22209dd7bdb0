# SPDX-License-Identifier: BSD-3-Clause
"""Runs what may read outside its memory in a process of its own.

A strange offset makes some implementations crash; a crash is a verdict, not the suite's end.
"""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from suites.backends import Target
from suites.evaluation import Results
from suites.problems import Problem

_TIMEOUT_S = 60


def run_isolated(target: Target, problem: Problem) -> Results:
    """`target.run(problem)`; for a peer on the CPU in a forked process.

    Raises:
        AssertionError: if the process dies, hangs, or raises.
    """
    return isolated(lambda: target.run(problem), target)


def isolated(run: Callable[[], Results], target: Target) -> Results:
    """Any evaluation of a target as `run_isolated` does it.

    Raises:
        AssertionError: if the process dies, hangs, or raises.
    """
    if target.backend.ours or target.device != "cpu":
        return run()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(sender, run), daemon=True)
    child.start()
    sender.close()
    try:
        answered = receiver.poll(_TIMEOUT_S)
        result = receiver.recv() if answered else "no answer"
    except EOFError:
        child.join()
        result = f"the process died with exit code {child.exitcode}"
    finally:
        child.kill()
        child.join()
    assert isinstance(result, dict), result
    return {name: torch.load(io.BytesIO(saved)) for name, saved in result.items()}


def _work(sender: Connection, run: Callable[[], Results]) -> None:
    faulthandler.disable()  # the parent tells
    torch.set_num_threads(1)  # threads of the parent do not survive a fork
    try:
        sender.send({name: _saved(result) for name, result in run().items()})
    except Exception as error:  # whatever it is, the parent reports it
        sender.send(f"{type(error).__name__}: {error}")


def _saved(tensor: Tensor) -> bytes:
    """Any dtype; a tensor itself would go through shared memory."""
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()
