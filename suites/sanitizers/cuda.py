# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA library under compute-sanitizer: find the tool, run it, read its output."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from suites.mutants.patch_files import read_patches
from suites.mutants.patches import ROOT, Patch
from suites.mutants.rebuild import Build

RACES = read_patches("races")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
_NAME = "compute-sanitizer"
_ERROR = 86  # the exit code that the tool is asked to end with
# Per block: more than any kernel has. The tool counts those in the code, but loops create more.
_BARRIERS = 32
_MOST_PRINTED = 2000
_OVERFLOW = "Detected overflow of tracked"  # of barriers: its findings may then be wrong
# racecheck prints an access in one line, and those that race with it in the next ones.
_RACE = re.compile(r"= (\w+): (?:Potential )?Race reported between (\w+) access at (.+)")
_WITH = re.compile(r"=  +and (\w+) access at (.+?) \[(\d+) hazards?\]")
_PLACE = re.compile(r"(?P<kernel>.+)\+(?P<offset>0x[0-9a-f]+)(?: in (?:.*/)?(?P<line>[^/]+:\d+))?$")
_COMMON = re.compile(r"dcnv2::cuda::|<unnamed>::|\(anonymous namespace\)::|\((?:int|bool)\)|^void ")


@dataclass(frozen=True)
class Run:
    """A tool, the output of its run with that of the problems, and the exit code."""

    tool: str
    output: str
    code: int

    @property
    def summary(self) -> str:
        """The tool's summary; empty if there is none."""
        found = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (.+)", self.output)
        return found[1] if found else ""

    def row(self) -> dict:
        """Its row of the report: right if the tool finished, ran problems, and found nothing."""
        checked = re.search(r"^(\d+) problems checked", self.output, flags=re.MULTILINE)
        found = self.summary or f"no summary, exit code {self.code}"
        lost = _OVERFLOW in self.output
        return {
            "sanitizers": self.tool,
            "checked": checked[0] if checked else "**nothing**",
            "found": f"{found}; it lost track of barriers" if lost else found,
            "right": self.code == 0 and bool(checked) and bool(self.summary) and not lost,
        }

    def mutant_row(self, patch: Patch) -> dict:
        """Its row of the report for a mutant with a race: right if the race was found."""
        reported = bool(re.match(r"[1-9]\d* hazard", self.summary))
        return {
            "sanitizers": self.tool,
            "checked": f"mutant: {patch.name}",
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
            f"no {asked or _NAME}: it is neither in the package nvidia-cuda-sanitizer-api, nor on "
            "PATH, nor in CUDA_HOME/bin"
        )
    return found


def version(sanitizer: str) -> str:
    """The version that the tool prints."""
    said = subprocess.run([sanitizer, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"Version (\S+)", said)
    return found[1] if found else "unknown"


def run_tools(
    sanitizer: str, tools: Sequence[str], timeout_s: float, libraries: Mapping[str, Path]
) -> list[Run]:
    """Run the small problems under some tools at once; a tool may have a library of its own."""

    def one(tool: str) -> Run:
        words = ["--library", str(libraries[tool])] if tool in libraries else []
        return _under(sanitizer, tool, words, timeout_s)

    with ThreadPoolExecutor(len(tools)) as pool:
        return list(pool.map(one, tools))


def run_racecheck(sanitizer: str, built: Build, timeout_s: float) -> list[tuple[Run, Patch]]:
    """Run racecheck on the mutants with a race, built as the library for racecheck is."""

    def one(patch: Patch) -> tuple[Run, Patch]:
        with built.mutant(patch, "cuda") as library:
            words = ["--library", str(library), "--backend", f"dcnv2-{patch.kernels}"]
            run = _under(sanitizer, "racecheck", [*words, "--offsets", "small"], timeout_s)
        return run, patch

    with ThreadPoolExecutor(len(RACES)) as pool:
        return list(pool.map(one, RACES))


def _under(sanitizer: str, tool: str, words: Sequence[str], timeout_s: float) -> Run:
    command = [sanitizer, "--tool", tool, "--error-exitcode", str(_ERROR)]
    command += ["--print-limit", str(_MOST_PRINTED)]
    if tool in ("racecheck", "synccheck"):
        command += ["--num-cuda-barriers", str(_BARRIERS)]
    command += [sys.executable, "-m", "suites.sanitizers.cases", *words]
    # Each tensor has an allocation of its own, so that an access outside of it is an error.
    own = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    output, code = _within(command, {**os.environ, **own}, timeout_s)
    return Run(tool, output, code)


def _within(command: list[str], env: dict[str, str], timeout_s: float) -> tuple[str, int]:
    """The output and exit code of a command; after `timeout_s`, it and its children are killed."""
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
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\nERROR: ended after {timeout_s:.0f} s\n"
    return output, process.returncode


def hazards(output: str) -> pd.DataFrame:
    """The hazards that racecheck reported, a row for each two places of a kernel that race."""
    rows, first = [], None
    for line in output.splitlines():
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
    """A kernel's name without the parts that all share, and the line in it, or else the offset."""
    found = _PLACE.match(text)
    if not found:
        return "", text
    name = _COMMON.sub("", found["kernel"])
    return name.partition("(")[0], found["line"] or found["offset"]
