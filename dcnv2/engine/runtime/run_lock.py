# SPDX-License-Identifier: BSD-3-Clause
"""One training per run folder: a lock that a process holds as long as it lives."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("dcnv2")

LOCK_FILE = ".lock"
# Over NFS, Linux turns flock into a record lock, whose refusal may be EACCES.
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)

_held: set[int] = set()


class RunLockedError(OSError):
    """Another process trains in the run's folder."""


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder while the block runs.

    The system releases the lock when the process ends, however it ends. Where the file system has
    no locks, a warning says so and the block runs without.

    Raises:
        RunLockedError: another process holds the lock; the message names its machine, process
            and start.
        OSError: the lock's file cannot be opened.
    """
    path = folder / LOCK_FILE
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    _held.add(file)
    try:
        locked = _lock(file, path)
        if locked:
            before = _read(file)
            if before and not before.startswith(f"{socket.gethostname()},"):
                log.warning(
                    "%s was in use by %s, which did not end regularly: if it still runs, stop it",
                    folder,
                    before,
                )
            start = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            _write(file, f"{socket.gethostname()}, process {os.getpid()}, since {start}")
        yield
        if locked:
            _write(file, "")
    finally:
        _held.discard(file)
        os.close(file)


def _lock(file: int, path: Path) -> bool:
    """Takes the lock; returns whether the file system has locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            raise RunLockedError(
                f"{path.parent} is in use by {_read(file) or 'another process'}: "
                "wait until it ends, or choose another --name=..."
            ) from None
        log.warning("%s cannot be locked (%s): start no second run there", path, error.strerror)
        return False
    return True


def _read(file: int) -> str:
    with contextlib.suppress(OSError):
        return os.pread(file, 1000, 0).decode(errors="replace").strip()
    return ""


def _write(file: int, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock holds without its text
        os.ftruncate(file, 0)
        os.pwrite(file, f"{text}\n".encode() if text else b"", 0)


def _close_in_child() -> None:
    """A loader process that outlives its parent must not hold the parent's lock."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
