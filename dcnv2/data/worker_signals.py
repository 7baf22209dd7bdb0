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

from torch.utils.data import DataLoader

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that ask a job to end."""


class SignalSafeLoader(DataLoader[Any]):
    """A `DataLoader` whose processes end only with their iterator or with their parent."""

    def __init__(self, *operands: Any, **options: Any) -> None:
        super().__init__(*operands, worker_init_fn=_ignore_stop_signals, **options)

    def __iter__(self) -> Any:
        # Forked processes inherit the mask: no signal reaches them before they set their own.
        with _stop_signals_blocked():
            return super().__iter__()


@contextlib.contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Delays stop signals to this thread until the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
