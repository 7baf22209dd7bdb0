# SPDX-License-Identifier: BSD-3-Clause
"""Judges the compiled libraries with faults planted in their sources, one fault at a time.

    python -m suites.mutants.sources                      # the CPU library
    python -m suites.mutants.sources --device emulated    # CUDA's kernels, without a GPU
    python -m suites.mutants.sources --device cuda --report reports/h200
    python -m suites.mutants.sources --only "mask never applied"

Each faulty library is built aside, and the claim that must find the fault judges it in a process of
its own, as many at once as there are cores. A fault that it does not find fails the run, as does a
patch that no longer fits. Where there is a GPU but no compiler:

    python -m suites.mutants.sources --device cuda --build faults.tar.xz     # where there is one
    python -m suites.mutants.sources --device cuda --built faults.tar.xz --report reports/h200
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from suites.mutants.packed import Packed, pack
from suites.mutants.patches import ROOT, Patch
from suites.mutants.patches_cpu import CPU
from suites.mutants.patches_cuda import CUDA
from suites.mutants.patches_fused import FUSED
from suites.mutants.patches_index import INDEX
from suites.mutants.patches_launch import LAUNCH
from suites.mutants.patches_shared import SHARED
from suites.mutants.rebuild import build

_PASSED, _FAILED = 0, 1  # exit codes of pytest
_TIMEOUT_S = 600


def patches(device: str) -> list[Patch]:
    """The faults that concern a library."""
    every = (*SHARED, *CPU, *CUDA, *FUSED, *INDEX, *LAUNCH)
    found = [p for p in every if p.sources("cpu" if device == "cpu" else "cuda")]
    return [p for p in found if device != "emulated" or p.emulated]


def backend(patch: Patch, device: str) -> str:
    """The suite's name for what a fault is judged as."""
    if device == "emulated":
        return f"emulated-{patch.kernels or 'simt'}"
    return f"dcnv2-{patch.kernels}" if patch.kernels else "dcnv2"


def run_claim(
    library: Path, device: str, profile: str, backend: str, claim: str
) -> subprocess.CompletedProcess:
    """Let a claim judge a library built aside, until it first fails."""
    place = ROOT / "suites" / "correctness" / claim
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", str(place), "--backend", backend),
            *("--device", "cuda" if device == "cuda" else "cpu", "--library", str(library)),
            *("--profile", profile, "-x", "-q", "-p", "no:cacheprovider"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )


def outcome_of(done: subprocess.CompletedProcess, patch: Patch) -> tuple[str, str]:
    """What became of a fault, and in whose words: the patch may say which ones it must be.

    Raises:
        RuntimeError: if pytest did not come to judge.
    """
    if done.returncode == _PASSED:
        return "**survived**", ""
    if done.returncode < 0 or done.returncode > 128:
        return "killed", f"the process died with exit code {done.returncode}"
    if done.returncode != _FAILED:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    lines = re.findall(r"^E +(?:AssertionError: )?(.+)$", done.stdout, flags=re.MULTILINE)
    found = [re.sub(r"\S*/(?=[\w.]+:\d)", "", line) for line in lines]  # folders of one machine
    message = next((line for line in found if patch.message in line), None)
    if message is None and patch.message:
        return f"**not reported** as '{patch.message}'", found[0][:80] if found else "failed"
    return "killed", message[:80] if message else "failed"


def main(words: Sequence[str] | None = None) -> int:
    """Judge all faults of a library; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.mutants.sources",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda", "emulated"), default="cpu")
    parser.add_argument("--only", action="append", metavar="NAME", help="faults by name or file")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="faults at a time; default: one a core"
    )
    parser.add_argument(
        "--profile", choices=("unshrunk", "brief"), default="unshrunk", help="of the suite"
    )
    parser.add_argument("--build", type=Path, metavar="FILE", help="build the libraries alone")
    parser.add_argument("--built", type=Path, metavar="FILE", help="judge libraries so built")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write source_mutants.md there")
    options = parser.parse_args(words)

    chosen = choose(parser, patches(options.device), "csrc", options.only)
    with tempfile.TemporaryDirectory(prefix="dcnv2_faults_") as folder:
        if options.build:
            built = build(options.device)
            pack(built, chosen, options.device, options.build, Path(folder), options.jobs)
            print(f"wrote {options.build}, {options.build.stat().st_size >> 20} MiB")
            return 0
        if options.built:
            unchanged = Packed(options.built, options.device, Path(folder))
            packed = [patch for patch in chosen if patch.name in unchanged.faults]
            print(f"{len(packed)} of {len(chosen)} faults are in {options.built}")
            chosen = packed
        else:
            unchanged = build(options.device)
        rows = _run_all(unchanged, options.device, options.profile, chosen, options.jobs)
    if not rows:
        return 1
    table = pd.DataFrame(rows)
    killed = (table["outcome"] == "killed").sum()
    print(f"{killed} of {len(table)} killed")
    if options.report:
        _write(table, options.device, options.report)
    return int(killed < len(table))


def asked(patch: Patch, folder: str, only: Sequence[str] | None) -> bool:
    """Whether a fault is among those asked for, by its name or how its file's path begins."""
    place = f"{folder}/{patch.path}"
    return not only or patch.name in only or any(place.startswith(o) for o in only)


def choose(
    parser: argparse.ArgumentParser,
    faults: Sequence[Patch],
    folder: str,
    only: Sequence[str] | None,
) -> list[Patch]:
    """The faults that are asked for; a command line that asks for none is in error."""
    chosen = [patch for patch in faults if asked(patch, folder, only)]
    if not chosen:
        parser.error(f"no fault has a name, or a file that begins as, one of {only}")
    return chosen


def _run_all(
    unchanged, device: str, profile: str, chosen: Sequence[Patch], jobs: int
) -> list[dict]:
    """A row for each fault; none if the unchanged library does not hold."""
    needed = dict.fromkeys((backend(patch, device), patch.detected_by) for patch in chosen)
    rows = []
    with ThreadPoolExecutor(jobs) as pool:
        healthy = pool.map(lambda asked: run_claim(unchanged.path, device, profile, *asked), needed)
        for asked, done in zip(needed, healthy, strict=True):
            if done.returncode != _PASSED or " passed" not in done.stdout:
                print(done.stdout[-3000:], done.stderr[-3000:])
                print(f"{asked} does not hold for the unchanged library: no fault can be judged")
                return []
        for row in pool.map(lambda patch: _row(patch, unchanged, device, profile), chosen):
            rows.append(row)
            print("{fault} ({file}): {outcome} in {seconds} s: {message}".format(**row), flush=True)
    return rows


def _row(patch: Patch, unchanged, device: str, profile: str) -> dict:
    start = time.monotonic()
    with unchanged.faulty(patch, device) as library:
        done = run_claim(library, device, profile, backend(patch, device), patch.detected_by)
    outcome, message = outcome_of(done, patch)
    return {
        "device": device,
        "fault": patch.name,
        "file": f"csrc/{patch.path}",
        "outcome": outcome,
        "killed by": patch.detected_by.partition("::test_")[2].replace("_", " "),
        "message": message,
        "seconds": round(time.monotonic() - start),
    }


def _write(table: pd.DataFrame, device: str, folder: Path) -> None:
    from suites.reporting import report

    killed = (table["outcome"] == "killed").sum()
    headline = pd.DataFrame([{"library": device, "faults": len(table), "killed": killed}])
    path = report.write_report(
        "source_mutants",
        table,
        title="Faults planted in the sources",
        sections={"Faults": table.drop(columns=["device", "seconds"])},
        headline=headline,
        directory=folder,
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
