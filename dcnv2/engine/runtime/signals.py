# SPDX-License-Identifier: BSD-3-Clause
"""Ending a run early without losing anything."""

from __future__ import annotations

import signal
import threading
from typing import Any

EXIT_STOPPED = 75
"""Exit status of a run that was asked to end, and can be resumed (EX_TEMPFAIL of sysexits.h)."""


class RunStoppedError(Exception):
    """A run ended between two updates because a signal asked for it; its state is saved."""


class StopSignals:
    """Notes SIGTERM and SIGINT instead of dying of them; a context manager.

    A second signal acts as it did before. Elsewhere than in the main thread, where Python allows
    no handlers, nothing changes.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.received = signal.Signals(number)
        for each, handler in self._before.items():
            signal.signal(each, handler)
