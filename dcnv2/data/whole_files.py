# SPDX-License-Identifier: BSD-3-Clause
"""Files that are written completely or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and renames it in the end.

    No reader sees a partial file: if the block fails, the temporary file is removed, and `path` is
    what it was before. A device or a pipe, such as /dev/null and /dev/stdout, cannot be replaced:
    it is written to directly.

    Raises:
        OSError: the file could not be written, for example on a full disk; the message names it.
    """
    if _is_special(path):
        yield path
        return
    aside = path.with_name(f".{path.name}.writing")
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


def _is_special(path: Path) -> bool:
    """Whether a path names a device or a pipe, or an open file of this process (/dev/stdout)."""
    if path.is_symlink() and path.absolute().parts[1] in ("dev", "proc"):
        return True
    return path.exists() and not path.is_file() and not path.is_dir()
