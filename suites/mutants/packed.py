# SPDX-License-Identifier: BSD-3-Clause
"""Faulty libraries in one small file, built on one machine and judged on another.

All but one object of each is the same, so that a compressor with a long memory stores it once.
"""

from __future__ import annotations

import json
import lzma
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dcnv2.csrc_digest import csrc_digest
from suites.mutants.patches import ROOT, Patch

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 64 << 20}]
_MANIFEST = "faults.json"


def pack(build, patches: Iterable[Patch], device: str, file: Path, folder: Path, jobs: int) -> None:
    """Build the libraries in a folder, and write them into a file.

    Args:
        build: as `suites.mutants.rebuild.build` returns it.
        patches: the faults.
        device: that the libraries are for.
        file: to write, a .tar.xz.
        folder: for the libraries, some megabytes each.
        jobs: compilations at a time.
    """

    def made(item: tuple[int, Patch]) -> Path:
        number, patch = item
        own = folder / str(number)
        own.mkdir()
        library = build.with_fault(patch, device, own)
        print(f"built: {patch.name}", flush=True)
        return library

    patches = list(patches)
    with ThreadPoolExecutor(jobs) as pool:
        libraries = list(pool.map(made, enumerate(patches)))
    names = [patch.name for patch in patches]
    manifest = folder / _MANIFEST
    manifest.write_text(
        json.dumps({"sources": csrc_digest(ROOT / "csrc", device), "faults": names})
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        lzma.open(file, "wb", filters=_FILTERS) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        tar.add(manifest, _MANIFEST)
        tar.add(build.path, "unchanged.so")
        for number, library in enumerate(libraries):
            tar.add(library, f"{number}.so")


class Packed:
    """Libraries of such a file, in a folder.

    Attributes:
        path: the unchanged library.
        faults: names of those that are there.
    """

    def __init__(self, file: Path, device: str, folder: Path):
        with lzma.open(file) as packed, tarfile.open(fileobj=packed) as tar:
            tar.extractall(folder, filter="data")
        manifest = json.loads((folder / _MANIFEST).read_text())
        if manifest["sources"] != csrc_digest(ROOT / "csrc", device):
            raise ValueError(f"{file} was made from other sources of the {device} library")
        self.path = folder / "unchanged.so"
        self.faults = manifest["faults"]
        self._libraries = {n: folder / f"{i}.so" for i, n in enumerate(self.faults)}

    @contextmanager
    def faulty(self, patch: Patch, device: str):
        """The library with a fault.

        Raises:
            ValueError: if the file has none.
        """
        if patch.name not in self._libraries:
            raise ValueError(f"no library was packed with the fault '{patch.name}'")
        yield self._libraries[patch.name]
