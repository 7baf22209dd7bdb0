# SPDX-License-Identifier: BSD-3-Clause
"""Files of a run: whole when they are written, checked when they are read."""

from __future__ import annotations

import json
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

from dcnv2.data.whole_files import replacing


class DamagedFileError(ValueError):
    """A file that cannot be used.

    Attributes:
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path, reason: object) -> None:
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        self.path, self.reason = path, text
        super().__init__(f"{path}: {text}")

    def __reduce__(self) -> tuple[Any, ...]:
        return DamagedFileError, (self.path, self.reason)


def check_file(path: Path) -> None:
    """Raises `DamagedFileError` unless the path is a regular file, or a link to one."""
    try:
        if path.is_file():
            return
        if not os.path.lexists(path):
            reason = "missing"
        elif path.is_dir():
            reason = "a folder, not a file"
        elif path.exists():
            reason = "not a regular file"
        else:
            reason = f"a link to {os.readlink(path)}, which does not exist"
    except OSError as error:
        raise DamagedFileError(path, error) from None
    raise DamagedFileError(path, reason)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DamagedFileError: the file is missing, unreadable, or holds anything else.
    """
    check_file(path)
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DamagedFileError(path, error) from None
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DamagedFileError(path, f"wanted a JSON object, got {type(value).__name__}")
    return value


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, completely or not at all; see `replacing`."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def set_aside(path: Path) -> Path:
    """Renames a damaged file, link or folder to an unused name with `.damaged` in it."""
    for number in count(1):
        aside = path.with_name(f"{path.name}.damaged{'' if number == 1 else f'_{number}'}")
        if not os.path.lexists(aside):
            break
    return path.rename(aside)


def remove(path: Path) -> None:
    """Removes a file, a folder with its contents, or a link (not its target)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
