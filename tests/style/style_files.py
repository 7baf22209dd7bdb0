# SPDX-License-Identifier: BSD-3-Clause
"""The project's files, for the checks in this folder."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_SUFFIXES = (".py", ".h", ".inl", ".cuh", ".cpp", ".cu")


def project_files() -> list[Path]:
    """Every file that is tracked or new and not ignored."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def sources(*suffixes: str) -> list[Path]:
    """The source files with these suffixes, by default with any."""
    return [path for path in project_files() if path.suffix in (suffixes or SOURCE_SUFFIXES)]


def names(paths: list[Path]) -> list[str]:
    """Paths as texts relative to the checkout."""
    return [path.relative_to(ROOT).as_posix() for path in paths]
