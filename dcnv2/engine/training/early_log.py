# SPDX-License-Identifier: BSD-3-Clause
"""Keeps what is logged before a run's log file exists."""

from __future__ import annotations

import logging

log = logging.getLogger("dcnv2")


class EarlyLog(logging.Handler):
    """Collects the records of a block, for `replay` into the handlers of the run.

    Warnings are also shown at once, in case the run never begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def __enter__(self) -> EarlyLog:
        self._level, self._seen = log.level, log.hasHandlers()
        log.setLevel(logging.INFO)
        log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self)
        log.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a record."""
        self.records.append(record)
        if not self._seen and logging.lastResort and record.levelno >= logging.WARNING:
            logging.lastResort.handle(record)

    def replay(self, file: logging.Handler, screen: logging.Handler) -> None:
        """Writes the records to the file, and those that were not shown to the screen."""
        for record in self.records:
            file.handle(record)
            if screen.level <= record.levelno < logging.WARNING:
                screen.handle(record)
        self.records.clear()
