# SPDX-License-Identifier: BSD-3-Clause
"""Signals that ask a run to stop: they are recorded, and the run ends after it has saved."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from dcnv2.data.worker_signals import STOP_SIGNALS

EXIT_STOPPED = 75
"""Exit status of a run that a signal stopped and that can be resumed (EX_TEMPFAIL, sysexits.h)."""

# A job's processes often get one request twice: from the scheduler, and passed on by torchrun.
SAME_REQUEST_S = 2.0


class RunStoppedError(Exception):
    """A run ended between two updates because of a signal; its state was saved."""


class StopSignals:
    """Records the signals that ask a job to stop instead of dying of them; a context manager.

    A Ctrl-C that comes more than SAME_REQUEST_S seconds after the first signal interrupts at once,
    but not while a checkpoint is written. Repetitions of other signals change nothing: a scheduler
    sends SIGTERM some time after its first warning, when the run is about to save. SIGHUP stays
    ignored where it was, as under nohup. Python allows handlers in the main thread only; in other
    threads nothing changes.

    Attributes:
        received: the first signal, None before.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._received_s = 0.0
        self._handlers: dict[int, Any] = {}
        self._shielded = self._interrupted = False

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """Delays an impatient Ctrl-C until the block ends."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._interrupted:
            self._interrupt()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._received_s = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._received_s > SAME_REQUEST_S:
            self._interrupted = True
            if not self._shielded:
                self._interrupt()

    def _interrupt(self) -> None:
        signal.signal(signal.SIGINT, self._handlers[signal.SIGINT])
        signal.raise_signal(signal.SIGINT)
