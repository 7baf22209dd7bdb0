# SPDX-License-Identifier: BSD-3-Clause
"""Loader processes that leave signals to the process that started them.

`timeout`, Slurm, Kubernetes and Ctrl-C signal every process of a job. If the loader's processes
died of such a signal, the training process would fail before it could save a checkpoint.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

STOP_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    # Batch systems announce the end of a job by these, as Slurm does with --signal=USR1@60.
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
)
"""Signals that ask a job to end."""


class SignalSafeLoader(DataLoader[Any]):
    """A `DataLoader` whose processes end only with their iterator or with their parent.

    If one is killed, the iterator raises ChildProcessError when its batch is due.
    """

    def __init__(self, dataset: Dataset[Any], **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=_ignore_stop_signals, **options)

    def __iter__(self) -> Any:
        # Forked processes inherit the mask: no signal reaches them before they set their own.
        with _stop_signals_blocked(), _child_handler_kept():
            batches = super().__iter__()
        return _name_failures(batches)


@contextlib.contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Delays stop signals to this thread until the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _child_handler_kept() -> Iterator[None]:
    """Removes the handler of SIGCHLD that PyTorch installs for its loaders.

    It raises at once, wherever the main thread is, even in the middle of an update of the weights.
    Without it, a loader notices dead processes within seconds, while it waits for their batch.
    """
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _name_failures(batches: Iterator[Any]) -> Iterator[Any]:
    """Yields the batches, and raises a failure of a loader process as one sentence."""
    try:
        yield from batches
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "Caught" in str(error):
            raise
        raise ChildProcessError(
            "a loader process was killed, often because memory ran out; fewer of them need less "
            f"(data.workers): {str(error).splitlines()[0]}"
        ) from error
    except ValueError as error:
        # PyTorch puts the traceback of the loader process before the message.
        name = type(error).__name__
        raise type(error)(str(error).rpartition(f"{name}: ")[2].strip()) from error


def _ignore_stop_signals(_worker_id: int) -> None:
    """Runs first in a loader process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _obey_parent(parent: int) -> None:
    """Ends this process on a SIGTERM from its parent.

    multiprocessing terminates loader processes that still run when the parent exits, and waits for
    them: they must not ignore that one.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
