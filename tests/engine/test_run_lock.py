# SPDX-License-Identifier: BSD-3-Clause
"""One training per run folder."""

import errno
import fcntl
import os
import signal
import socket
import time

import pytest

from dcnv2.engine.runtime.run_lock import LOCK_FILE, RunLockedError, lock_folder


def _held_by(child_work, folder):
    """Forks a process that holds the lock, and returns it once it does."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with lock_folder(folder):
            child_work()
            os.write(writing, b".")
            time.sleep(60)
        os._exit(0)
    os.read(reading, 1)
    return child


def _kill(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_folder_in_use_names_its_holder_until_that_dies(tmp_path):
    grandchildren = tmp_path / "grandchild"

    def fork_loader():  # which outlives its parent
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        grandchildren.write_text(str(child))

    holder = _held_by(fork_loader, tmp_path)
    try:
        with (
            pytest.raises(
                RunLockedError,
                match=rf"in use by {socket.gethostname()}, process {holder}, since 20",
            ),
            lock_folder(tmp_path),
        ):
            pass
    finally:
        _kill(holder)
    with lock_folder(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / LOCK_FILE).read_text()
    os.kill(int(grandchildren.read_text()), signal.SIGKILL)
    assert (tmp_path / LOCK_FILE).read_text() == ""


def test_the_lock_is_released_by_errors(tmp_path):
    with pytest.raises(KeyError), lock_folder(tmp_path):
        raise KeyError
    with lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES])
def test_a_refusal_over_nfs_is_one_too(tmp_path, monkeypatch, code):
    _refuse(monkeypatch, code)
    with pytest.raises(RunLockedError, match="in use by another process"), lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_run_goes_on_with_a_warning(tmp_path, monkeypatch, caplog, code):
    _refuse(monkeypatch, code)
    with lock_folder(tmp_path):
        pass
    assert "cannot be locked" in caplog.text


def _refuse(monkeypatch, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_holder_on_another_machine_that_did_not_end_regularly_is_named(tmp_path, caplog):
    (tmp_path / LOCK_FILE).write_text("node7, process 12, since yesterday\n")
    with lock_folder(tmp_path):
        pass
    assert "was in use by node7, process 12" in caplog.text
    caplog.clear()
    with lock_folder(tmp_path):
        pass
    assert not caplog.text


@pytest.mark.parametrize("kind", ["folder", "dangling"])
def test_something_else_in_place_of_the_lock_is_named(tmp_path, kind):
    path = tmp_path / LOCK_FILE
    path.mkdir() if kind == "folder" else path.symlink_to(tmp_path / "no" / "where")
    with pytest.raises(OSError, match=r"\.lock"), lock_folder(tmp_path):
        pass
