# SPDX-License-Identifier: BSD-3-Clause
"""Runs the tests on the package with one mutant of its own Python at a time.

    python -m suites.mutants.package
    python -m suites.mutants.package --only "forward-mode tangents silently zero" --report reports

Each mutant is made in a copy of the package and its tests, and the test that must detect it runs
there in a process of its own, one for each core at a time. The command fails if a mutant is not
detected or a patch does not fit the sources.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from suites.mutants.patch_files import read_patches
from suites.mutants.patches import ROOT, Patch
from suites.mutants.sources import choose, conclude, gather, outcome_of
from suites.reporting.interruption import end_as_by_ctrl_c

PACKAGE = read_patches("package")

_COPIED = ("dcnv2", "suites", "tests")
_LINKED = ("build_support", "csrc", "docs", "pyproject.toml", "reference")
_PASSED = 0  # exit code of pytest
_TIMEOUT_S = 600


def copy_project(folder: Path) -> None:
    """Copy what the tests need to a folder; compiled libraries are linked."""
    for name in _COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "lib")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("dcnv2/lib", *_LINKED):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)


def run_tests(
    detected_by: Sequence[str], patch: Patch | None = None
) -> subprocess.CompletedProcess:
    """Run tests, all of the suite or none, on a copy of the project, or of a mutant of it."""
    with tempfile.TemporaryDirectory(prefix="dcnv2_mutant_") as place:
        folder = Path(place)
        copy_project(folder)
        if patch is not None:
            file = folder / patch.path
            file.write_text(patch.apply(file.read_text()))
        return subprocess.run(
            [
                *(sys.executable, "-m", "pytest", *detected_by),
                *("-x", "-q", "-p", "no:cacheprovider"),
                *(("--backend=dcnv2",) if _is_claim(detected_by[0]) else ()),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=None if patch is None else _TIMEOUT_S,
        )


def _is_claim(test: str) -> bool:
    """Whether a test is one of the correctness suite, which has options of its own."""
    return test.startswith("suites/correctness")


def main(words: Sequence[str] | None = None) -> int:
    """Run all mutants; returns the exit code."""
    return run_set(PACKAGE, "package", "Mutants of the package's Python", __doc__, words)


def run_set(
    patches: Sequence[Patch],
    name: str,
    title: str,
    description: str | None,
    words: Sequence[str] | None,
) -> int:
    """Run the command of a set of mutants; returns the exit code.

    Args:
        patches: the mutants.
        name: module of the command; the report is `<name>_mutants.md`.
        title: of the report.
        description: help of the command.
        words: its arguments; by default those of this process.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m suites.mutants.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report = f"write {name}_mutants.md there"
    parser.add_argument("--only", action="append", metavar="NAME", help="mutants by name or file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--report", type=Path, metavar="DIR", help=report)
    options = parser.parse_args(words)

    end_as_by_ctrl_c()
    chosen = choose(parser, patches, lambda patch: patch.path, options.only)
    rows = _run_all(chosen, options.jobs)
    return conclude(rows, len(chosen), f"{name}_mutants", title, options.report)


def _run_all(chosen: Sequence[Patch], jobs: int) -> list[dict]:
    """A row for each mutant; none if a test fails without one."""
    with ThreadPoolExecutor(jobs) as pool:
        detecting = dict.fromkeys(patch.detected_by for patch in chosen)
        claims = [test for test in detecting if _is_claim(test)]
        others = [test for test in detecting if not _is_claim(test)]
        for done in pool.map(run_tests, filter(None, (claims, others))):
            if done.returncode != _PASSED or " passed" not in done.stdout:
                print(done.stdout[-3000:], done.stderr[-3000:])
                print("a test fails without a mutant: no mutant can be run")
                return []
        return gather(pool, _row, chosen)


def _row(patch: Patch) -> dict:
    start = time.monotonic()
    outcome, message = outcome_of(run_tests([patch.detected_by], patch), patch)
    return {
        "mutant": patch.name,
        "file": patch.path,
        "outcome": outcome,
        "killed by": patch.detected_by.partition("::test_")[2].replace("_", " "),
        "message": message,
        "seconds": round(time.monotonic() - start),
    }


if __name__ == "__main__":
    sys.exit(main())
