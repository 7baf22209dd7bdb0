# SPDX-License-Identifier: BSD-3-Clause
"""Ways in which a file gets damaged."""

import os
import shutil
from pathlib import Path


def _replace(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HARMS = {
    "empty": lambda path: _replace(path, b""),
    "cut": lambda path: _replace(path, path.read_bytes()[: path.stat().st_size // 2]),
    "last_bytes_cut": lambda path: _replace(path, path.read_bytes()[:-3]),
    "zeros": lambda path: _replace(path, bytes(path.stat().st_size)),
    "not_text": lambda path: _replace(path, b"\xff\xfe\x80" * 40),
    "list": lambda path: _replace(path, b"[1, 2]\n"),
    "null": lambda path: _replace(path, b"null\n"),
    "nested": lambda path: _replace(path, b"[" * 100_000),
    "folder": _make_folder,
    "dangling_link": lambda path: _link(path, path.with_name("nowhere")),
    "link_to_itself": lambda path: _link(path, path),
    "fifo": _make_fifo,
}


def copy_run(source: Path, target: Path) -> Path:
    """Copies a run folder."""
    return Path(shutil.copytree(source, target))
