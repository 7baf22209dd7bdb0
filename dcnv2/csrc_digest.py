# SPDX-License-Identifier: BSD-3-Clause
"""The digest of csrc/ that ties a built library, and every report, to the sources behind it."""

import hashlib
from pathlib import Path

_SUFFIXES = (".h", ".inl", ".cuh", ".cpp", ".cu")


def csrc_digest(folder: Path | None = None, library: str | None = None) -> str:
    """Digest of the C++ and CUDA sources: names and contents, nothing else in the folder.

    Args:
        folder: The source folder; by default the csrc/ of the checkout that holds this file.
        library: "cpu" or "cuda" for the sources of that library: its folder, and what both share,
            which lies above; by default those of both.

    Returns:
        The first 12 hexadecimal digits of a SHA-256.

    Raises:
        FileNotFoundError: `folder` has no sources, as in an installed package without a checkout.
    """
    folder = Path(folder or Path(__file__).resolve().parent.parent / "csrc")
    sources = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES and path.is_file()
    }
    if library is not None:
        sources = {n: p for n, p in sources.items() if "/" not in n or n.startswith(f"{library}/")}
    if not sources:
        raise FileNotFoundError(f"no C++ or CUDA sources in {folder}")
    digest = hashlib.sha256()
    for name in sorted(sources):
        content = sources[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def is_current(digest: str, library: str, folder: Path | None = None) -> bool:
    """Whether a digest is that of today's sources of a library, or of both libraries.

    Raises:
        FileNotFoundError: as `csrc_digest`.
    """
    return digest in (csrc_digest(folder, library), csrc_digest(folder))
