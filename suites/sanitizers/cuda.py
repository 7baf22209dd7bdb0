# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA library under compute-sanitizer: finding the tool, running it, reading what it found."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from suites.mutants.packed import Packed, pack
from suites.mutants.patches import ROOT, Patch
from suites.mutants.patches_races import RACES

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
_NAME = "compute-sanitizer"
_ERROR = 86  # the exit code that the tool is asked to end with
# Of a block: more than any kernel has. The tool counts those in the code, where a loop makes more.
_BARRIERS = 32
_MOST_PRINTED = 2000
_OVERFLOW = "Detected overflow of tracked"  # of barriers: what it says then may be wrong
# Two kinds of line of racecheck: a place, and one that races with it.
_RACE = re.compile(r"= (\w+): (?:Potential )?Race reported between (\w+) access at (.+)")
_WITH = re.compile(r"=  +and (\w+) access at (.+?) \[(\d+) hazards?\]")
_PLACE = re.compile(r"(?P<kernel>.+)\+(?P<offset>0x[0-9a-f]+)(?: in (?:.*/)?(?P<line>[^/]+:\d+))?$")
_COMMON = re.compile(r"dcnv2::cuda::|<unnamed>::|\(anonymous namespace\)::|\((?:int|bool)\)|^void ")


@dataclass(frozen=True)
class Run:
    """What a tool was run on, what it and the problems said, and how they ended."""

    tool: str
    said: str
    code: int

    @property
    def summary(self) -> str:
        """The tool's last words; empty if there are none."""
        found = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (.+)", self.said)
        return found[1] if found else ""

    def row(self) -> dict:
        """Of the report: right if the tool finished, judged problems, and found nothing."""
        judged = re.search(r"^(\d+) problems judged", self.said, flags=re.MULTILINE)
        found = self.summary or f"no summary, exit code {self.code}"
        lost = _OVERFLOW in self.said
        return {
            "sanitizers": self.tool,
            "judged": judged[0] if judged else "**nothing**",
            "found": f"{found}; barriers it lost track of" if lost else found,
            "right": self.code == 0 and bool(judged) and bool(self.summary) and not lost,
        }

    def planted_row(self, patch: Patch) -> dict:
        """Of the report, where a race was planted: right if it was found."""
        reported = bool(re.match(r"[1-9]\d* hazard", self.summary))
        return {
            "sanitizers": self.tool,
            "judged": f"planted: {patch.name}",
            "found": self.summary or "**nothing**",
            "right": reported,
        }


def find(asked: str | None = None) -> str:
    """The tool's path: the one asked for, a package's, or the toolkit's.

    Raises:
        RuntimeError: if there is none.
    """
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    packages = Path(sysconfig.get_paths()["purelib"], "nvidia")
    if asked:
        found = shutil.which(asked)
    else:
        packed = sorted(packages.glob(f"*/bin/{_NAME}")) + sorted(
            packages.glob(f"*/{_NAME}/{_NAME}")
        )
        places = [*map(str, packed), _NAME, str(home / "bin" / _NAME)]
        found = next(filter(None, map(shutil.which, places)), None)
    if found is None:
        raise RuntimeError(
            f"no {asked or _NAME}: neither of a package nvidia-cuda-sanitizer-api, nor on PATH, "
            "nor in CUDA_HOME/bin"
        )
    return found


def version(sanitizer: str) -> str:
    """What the tool says that it is."""
    said = subprocess.run([sanitizer, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"Version (\S+)", said)
    return found[1] if found else "unknown"


def run_tools(
    sanitizer: str, tools: Sequence[str], timeout_s: float, libraries: Mapping[str, Path]
) -> list[Run]:
    """Run the small problems under some tools, all at once: on a tool's own library, if any."""

    def one(tool: str) -> Run:
        words = ["--library", str(libraries[tool])] if tool in libraries else []
        return _under(sanitizer, tool, words, timeout_s)

    with ThreadPoolExecutor(len(tools)) as pool:
        return list(pool.map(one, tools))


def run_racecheck(sanitizer: str, races: Packed, timeout_s: float) -> list[Run]:
    """Run racecheck on the libraries with planted races."""

    def one(patch: Patch) -> Run:
        with races.faulty(patch, "cuda") as library:
            alone = ["--library", str(library), "--backend", f"dcnv2-{patch.kernels}"]
            return _under(sanitizer, "racecheck", [*alone, "--offsets", "small"], timeout_s)

    with ThreadPoolExecutor(len(RACES)) as pool:
        return list(pool.map(one, RACES))


@contextmanager
def races_from(file: Path | None) -> Iterator[Packed]:
    """The libraries that racecheck judges: of a file that `build_races` wrote, or built now."""
    with tempfile.TemporaryDirectory(prefix="dcnv2_races_") as folder:
        if file is None:
            file = Path(folder, "races.tar.xz")
            build_races(file)
        yield Packed(file, "cuda", Path(folder))


def build_races(file: Path) -> None:
    """Build the library for racecheck, and those with planted races, into a file."""
    from suites.mutants.rebuild import build_for_racecheck

    with tempfile.TemporaryDirectory(prefix="dcnv2_races_") as folder:
        pack(build_for_racecheck(), RACES, "cuda", file, Path(folder), os.cpu_count() or 1)


def _under(sanitizer: str, tool: str, words: Sequence[str], timeout_s: float) -> Run:
    command = [sanitizer, "--tool", tool, "--error-exitcode", str(_ERROR)]
    command += ["--print-limit", str(_MOST_PRINTED)]
    if tool in ("racecheck", "synccheck"):
        command += ["--num-cuda-barriers", str(_BARRIERS)]
    command += [sys.executable, "-m", "suites.sanitizers.cases", *words]
    # A block of its own for every tensor: what lies beside it is nobody's.
    own = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    said, code = _within(command, {**os.environ, **own}, timeout_s)
    return Run(tool, said, code)


def _within(command: list[str], env: dict[str, str], timeout_s: float) -> tuple[str, int]:
    """Run a command and what it starts; after so long end all of it, with what it said so far."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        said += f"\nERROR: ended after {timeout_s:.0f} s\n"
    return said, process.returncode


def hazards(said: str) -> pd.DataFrame:
    """What racecheck reported, a row for each two places of a kernel that race."""
    rows, first = [], None
    for line in said.splitlines():
        if found := _RACE.search(line):
            first = found.groups()
        elif first and (found := _WITH.search(line)):
            severity, access, place = first
            kernel, here = _place(place)
            other, there = _place(found[2])
            rows.append(
                {
                    "kernel": kernel if kernel == other else f"{kernel}; {other}",
                    "level": severity.lower(),
                    "one": f"{access.lower()} {here}",
                    "other": f"{found[1].lower()} {there}",
                    "hazards": int(found[3]),
                }
            )
    columns = ["kernel", "level", "one", "other", "hazards"]
    table = pd.DataFrame(rows, columns=columns)
    return table.groupby(columns[:4], sort=False, as_index=False)["hazards"].sum()


def _place(text: str) -> tuple[str, str]:
    """A kernel's name without what all have in common, and where in it: a line, else an offset."""
    found = _PLACE.match(text)
    if not found:
        return "", text
    name = _COMMON.sub("", found["kernel"])
    return name.partition("(")[0], found["line"] or found["offset"]
