# SPDX-License-Identifier: BSD-3-Clause
"""Files that are written completely or not at all, and the folders that they go to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd


COMPRESSED: dict[str, Literal["gzip", "bz2", "xz"]] = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
ARCHIVES = {".zip", ".tar", ".tgz", ".7z", ".zst"}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and renames it in the end.

    No reader sees a partial file: if the block fails, the temporary file is removed, and `path` is
    what it was before. A device or a pipe, such as /dev/null and /dev/stdout, cannot be replaced:
    it is written to directly. The temporary name ends as `path` does: writers choose a format by
    it.

    Raises:
        OSError: the file could not be written, for example on a full disk; the message names it.
    """
    if _is_special(path):
        yield path
        return
    aside = path.with_name(f".writing_{path.name}")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OSError(f"{path}: not written: {error.strerror or error}") from error
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as CSV, compressed if the name ends in one of COMPRESSED; see `replacing`.

    Raises:
        ValueError: the name ends in one of ARCHIVES.
    """
    check_table_path(path)
    method = COMPRESSED.get(path.suffix.lower())
    with replacing(path) as aside:
        table.to_csv(aside, index=False, compression=method)


def check_table_path(path: Path) -> None:
    """Checks where a table is to be written, before it is computed.

    Raises:
        ValueError: it would be an archive.
        OSError: it is a folder, or in no folder.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: wanted the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder: create it, or choose another")
    if path.suffix.lower() in ARCHIVES:
        known = ", ".join(f".csv{ending}" for ending in COMPRESSED)
        raise ValueError(f"{path}: no table is written to an archive: choose .csv, {known}")


def make_folder(path: Path) -> None:
    """Creates a folder and those above it, unless they exist.

    Raises:
        OSError: it cannot be created; see `check_folder`.
    """
    check_folder(path)
    path.mkdir(parents=True, exist_ok=True)


def check_folder(path: Path) -> None:
    """Raises NotADirectoryError, which names the file, if one is in the way of a folder."""
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(f"{place} is a file, not a folder: choose another folder")


def _is_special(path: Path) -> bool:
    """Whether a path names a device or a pipe, or an open file of this process (/dev/stdout)."""
    if path.is_symlink() and path.absolute().parts[1] in ("dev", "proc"):
        return True
    return path.exists() and not path.is_file() and not path.is_dir()
