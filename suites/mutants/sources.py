# SPDX-License-Identifier: BSD-3-Clause
"""Judges the compiled libraries with faults planted in their sources, one fault at a time.

    python -m suites.mutants.sources                      # the CPU library
    python -m suites.mutants.sources --device cuda --report reports/h200
    python -m suites.mutants.sources --only "mask never applied"

Each faulty library is built aside, and the claim that must find the fault judges it in a process of
its own, as many at once as there are cores. A fault that it does not find fails the run, as does a
patch that no longer fits.
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

from suites.mutants.patches import ROOT, Patch
from suites.mutants.patches_cpu import CPU
from suites.mutants.patches_cuda import CUDA
from suites.mutants.patches_index import INDEX
from suites.mutants.patches_shared import SHARED
from suites.mutants.rebuild import build

_PASSED, _FAILED = 0, 1  # exit codes of pytest
_TIMEOUT_S = 600


def patches(device: str) -> list[Patch]:
    """The faults that concern a library."""
    return [patch for patch in (*SHARED, *CPU, *CUDA, *INDEX) if patch.sources(device)]


def judge(library: Path, device: str, claims: Sequence[str]) -> subprocess.CompletedProcess:
    """Let some claims judge a library built aside, until the first fails."""
    folder = ROOT / "suites" / "correctness"
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *(str(folder / claim) for claim in claims)),
            *("--backend", "dcnv2", "--device", device, "--library", str(library)),
            *("--profile", "unshrunk", "-x", "-q", "-p", "no:cacheprovider"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )


def fate(done: subprocess.CompletedProcess) -> tuple[str, str]:
    """What became of a fault, and in whose words.

    Raises:
        RuntimeError: if pytest did not come to judge.
    """
    if done.returncode == _PASSED:
        return "**survived**", ""
    if done.returncode < 0 or done.returncode > 128:
        return "killed", f"the process died with exit code {done.returncode}"
    if done.returncode != _FAILED:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    found = re.search(r"^E +(?:AssertionError: )?(.+)$", done.stdout, flags=re.MULTILINE)
    return "killed", found[1][:80] if found else "failed"


def main(words: Sequence[str] | None = None) -> int:
    """Judge all faults of a library; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.mutants.sources",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", action="append", metavar="NAME", help="faults by name")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="faults at a time; default: one a core"
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write source_mutants.md there")
    options = parser.parse_args(words)

    chosen = [p for p in patches(options.device) if not options.only or p.name in options.only]
    unchanged = build(options.device)
    claims = list(dict.fromkeys(patch.killer for patch in chosen))
    healthy = judge(unchanged.path, options.device, claims)
    if healthy.returncode != _PASSED:
        print(healthy.stdout[-3000:], healthy.stderr[-3000:])
        print("the unchanged library does not hold: no fault can be judged")
        return 1
    rows = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda patch: _row(patch, unchanged, options.device), chosen):
            rows.append(row)
            print("{fault} ({file}): {fate} in {seconds} s: {words}".format(**row), flush=True)
    table = pd.DataFrame(rows)
    killed = (table["fate"] == "killed").sum()
    print(f"{killed} of {len(table)} killed")
    if options.report:
        _write(table, options.device, options.report)
    return int(killed < len(table))


def _row(patch: Patch, unchanged, device: str) -> dict:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dcnv2_fault_") as folder:
        library = unchanged.with_fault(patch, device, Path(folder))
        done, told = fate(judge(library, device, [patch.killer]))
    return {
        "device": device,
        "fault": patch.name,
        "file": f"csrc/{patch.path}",
        "fate": done,
        "killed by": patch.killer.partition("::test_")[2].replace("_", " "),
        "words": told,
        "seconds": round(time.monotonic() - start),
    }


def _write(table: pd.DataFrame, device: str, folder: Path) -> None:
    from suites import reporting

    killed = (table["fate"] == "killed").sum()
    headline = pd.DataFrame([{"library": device, "faults": len(table), "killed": killed}])
    path = reporting.write_report(
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
