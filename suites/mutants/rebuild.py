# SPDX-License-Identifier: BSD-3-Clause
"""Builds a compiled library aside: unchanged, as a mutant, for a sanitizer, or emulated.

Only the sources that a patch names are compiled; the other objects are those of the unchanged
build, which is kept in build/aside/ and renewed when a source changes.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from build_support import libraries
from dcnv2.csrc_digest import csrc_digest
from suites.mutants.patches import ROOT, Patch

ASIDE = ROOT / "build" / "aside"


class _Mutable:
    """A build of any kind whose mutants exist only while they are used."""

    @contextmanager
    def mutant(self, patch: Patch, device: str) -> Iterator[Path]:
        """A mutant of the library, as `build_mutant` builds it."""
        with tempfile.TemporaryDirectory(prefix="dcnv2_mutant_") as folder:
            yield self.build_mutant(patch, device, Path(folder))


@dataclass(frozen=True)
class Build(_Mutable):
    """A finished build of one library.

    Attributes:
        library: how its sources are compiled and linked.
        folder: where its objects are.
        path: the shared library.
    """

    library: libraries.Library
    folder: Path
    path: Path

    def compile(self, source: Path, into: Path, csrc: Path) -> Path:
        """The object of a source below `csrc`, a changed copy of the sources."""
        made = into / libraries.object_name(source)
        command = libraries.compile_command(self.library, source)
        command = [word.replace(str(ROOT / "csrc"), str(csrc)) for word in command]
        _run([*command, "-c", str(csrc / source), "-o", str(made)])
        return made

    def build_mutant(self, patch: Patch, device: str, folder: Path) -> Path:
        """Build a mutant of the library in a folder; returns its path.

        Raises:
            ValueError: if the patch no longer fits the sources.
            RuntimeError: if it does not compile.
        """
        csrc = patch.mutate(folder)
        made = {}
        for source in patch.sources(device):
            made[libraries.object_name(source)] = self.compile(source, folder, csrc)
        objects = self.folder / self.library.name
        kept = [made.get(o.name, o) for o in sorted(objects.glob("*.o")) if o.name in self._names()]
        path = folder / f"lib{self.library.name}.so"
        flags = self.library.link_flags
        _run([*libraries.compiler(), *map(str, kept), *flags, "-o", str(path)])
        return path

    def _names(self) -> set[str]:
        return {libraries.object_name(source) for source in self.library.sources}


@dataclass(frozen=True)
class EmulatedBuild(_Mutable):
    """The CUDA kernels, built for the host.

    Inline functions of a changed header are shared by all sources there, so a mutant may affect
    more than on a GPU.

    Attributes:
        path: the shared library.
    """

    path: Path

    def build_mutant(self, patch: Patch, device: str, folder: Path) -> Path:
        """Build a mutant of the emulated library in a folder; returns its path.

        Raises:
            ValueError: if the patch no longer fits the sources.
            RuntimeError: if it does not compile.
        """
        from suites.backends.emulator.build import build_changed

        return build_changed(patch.mutate(folder), patch.sources("cuda"), folder)


def build(device: str) -> Build | EmulatedBuild:
    """The unchanged library of a device, built aside, from the checkout's objects if there are any.

    Args:
        device: cpu, cuda, or emulated (the CUDA kernels on the host).

    Raises:
        RuntimeError: if it cannot be built here.
    """
    if device == "emulated":
        from suites.backends.emulator.build import build as emulate

        return EmulatedBuild(emulate())
    folder = ASIDE / device
    checkout = ROOT / "build" / "csrc"
    if not folder.exists() and checkout.exists():
        shutil.copytree(checkout, folder)  # with their times: nothing of it is compiled again
    library = _planned(device)
    return _built(library, folder)


def build_sanitized() -> Build:
    """The CPU library under AddressSanitizer and UndefinedBehaviorSanitizer.

    Any finding ends the process. Conversions of out-of-range floats are findings too, since an
    offset can have any value.

    Raises:
        RuntimeError: if it cannot be built here.
    """
    library, folder = _planned("cpu"), ASIDE / "sanitized"
    checks = ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    library.cxx_flags += ["-O1", "-g1", "-fno-omit-frame-pointer", *checks]
    library.link_flags = [f for f in library.link_flags if f != "-Wl,--no-undefined"] + checks
    return _built(library, folder)


def build_for_racecheck() -> Build:
    """The CUDA library for racecheck: with line numbers, and barriers that it can follow.

    Normally one lane of a warp arrives at a barrier for all, after `__syncwarp()`. racecheck does
    not see that order where the compiler turns it into a branch, so here each lane arrives itself.

    Raises:
        RuntimeError: if it cannot be built here.
    """
    library, folder = _planned("cuda"), ASIDE / "racecheck"
    library.nvcc_flags += ["-lineinfo", "-DDCNV2_EVERY_LANE_ARRIVES"]
    return _built(library, folder)


def _built(library: libraries.Library, folder: Path) -> Build:
    libraries.build([library], folder, folder)
    return Build(library, folder, folder / f"lib{library.name}.so")


def _planned(device: str) -> libraries.Library:
    planned, skipped = libraries.plan(ROOT, csrc_digest)
    found = [library for library in planned if library.name == f"dcnv2_{device}"]
    if not found:
        raise RuntimeError(f"the {device} library can't be built here: {skipped[device]}")
    return found[0]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
