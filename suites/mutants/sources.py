# SPDX-License-Identifier: BSD-3-Clause
"""Runs the suite on the compiled libraries with one mutant of their sources at a time.

    python -m suites.mutants.sources                      # the CPU library
    python -m suites.mutants.sources --device emulated    # the CUDA kernels, without a GPU
    python -m suites.mutants.sources --device cuda --report reports/h200
    python -m suites.mutants.sources --only "mask never applied"

Each mutant is built aside (nvcc and a C++ compiler are needed where it runs), and the claim that
must detect it runs in a process of its own, one for each core at a time. The command fails if a
mutant is not detected or a patch does not fit the sources.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from suites.mutants.patch_files import read_patches
from suites.mutants.patches import ROOT, Patch, find_source
from suites.mutants.patches_cpu import CPU
from suites.mutants.patches_index import INDEX
from suites.mutants.patches_launch import LAUNCH
from suites.mutants.patches_nms import NMS_OF_CPU
from suites.mutants.patches_shared import SHARED
from suites.mutants.rebuild import build
from suites.reporting.interruption import INTERRUPTED, end_as_by_ctrl_c

CUDA, COPY, FUSED, NMS = map(read_patches, ("cuda", "copy", "fused", "nms"))

_PASSED, _FAILED = 0, 1  # exit codes of pytest
_TIMEOUT_S = 600


def patches(device: str) -> list[Patch]:
    """The mutants of a library."""
    every = (*SHARED, *CPU, *CUDA, *COPY, *FUSED, *INDEX, *LAUNCH, *NMS_OF_CPU, *NMS)
    found = [p for p in every if p.sources("cpu" if device == "cpu" else "cuda")]
    return [p for p in found if device != "emulated" or p.emulated]


def backend(patch: Patch, device: str) -> str:
    """The suite's name of the backend that a mutant runs as."""
    if device == "emulated":
        return f"emulated-{patch.kernels or 'simt'}"
    return f"dcnv2-{patch.kernels}" if patch.kernels else "dcnv2"


def run_claim(
    library: Path, device: str, profile: str, backend: str, claim: str
) -> subprocess.CompletedProcess:
    """Run a claim on a library built aside, until it first fails."""
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


# Folders of one machine, in front of a file and a line, or in an absolute path.
_FOLDERS = re.compile(r"\S*/(?=[\w.]+:\d)|(?<![\w.])/(?:[\w.+-]+/)+")


def outcome_of(done: subprocess.CompletedProcess, patch: Patch) -> tuple[str, str]:
    """Whether a mutant was detected, and the message: the patch may say what it must contain.

    Raises:
        RuntimeError: if pytest did not run the claim.
    """
    if done.returncode == _PASSED:
        return "**survived**", ""
    if done.returncode < 0 or done.returncode > 128:
        return "killed", f"the process died with exit code {done.returncode}"
    if done.returncode != _FAILED:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    lines = re.findall(r"^E +(?:AssertionError: )?(.+)$", done.stdout, flags=re.MULTILINE)
    found = [_FOLDERS.sub("", line) for line in lines]
    message = next((line for line in found if patch.message in line), None)
    if message is None and patch.message:
        return f"**not reported** as '{patch.message}'", found[0][:80] if found else "failed"
    return "killed", message[:80] if message else "failed"


def main(words: Sequence[str] | None = None) -> int:
    """Run all mutants of a library; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.mutants.sources",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda", "emulated"), default="cpu")
    parser.add_argument("--only", action="append", metavar="NAME", help="mutants by name or file")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="mutants at a time; default: one per core"
    )
    parser.add_argument(
        "--profile", choices=("unshrunk", "brief"), default="unshrunk", help="of the suite"
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write source_mutants.md there")
    options = parser.parse_args(words)
    end_as_by_ctrl_c()

    chosen = choose(parser, patches(options.device), source_path, options.only)
    try:
        unchanged = build(options.device)
    except RuntimeError as error:
        parser.error(f"mutants are compiled here: {error}")
    rows = _run_all(unchanged, options.device, options.profile, chosen, options.jobs)
    title = "Mutants of the sources"
    report = options.report
    return conclude(rows, len(chosen), "source_mutants", title, report, library=options.device)


def conclude(
    rows: list[dict],
    chosen: int,
    page: str,
    title: str,
    directory: Path | None,
    **of: str,
) -> int:
    """Print how many mutants were killed and write the report, if asked for; the exit code.

    Args:
        rows: of the mutants that were run.
        chosen: number of mutants that were asked for.
        page: name of the report.
        title: of the report.
        directory: of the report, or None for none.
        of: further columns of its headline.
    """
    if not rows:
        return 1
    interrupted = len(rows) < chosen
    table = pd.DataFrame(rows)
    killed = (table["outcome"] == "killed").sum()
    print(f"{killed} of {len(table)} killed")
    if directory:
        from suites.reporting import report

        path = report.write_report(
            page,
            table,
            title=title + INTERRUPTED * interrupted,
            sections={"Mutants": table.drop(columns=["device", "seconds"], errors="ignore")},
            headline=pd.DataFrame([{**of, "mutants": len(table), "killed": killed}]),
            directory=directory,
        )
        print(f"wrote {path}")
    return int(interrupted or killed < len(table))


def source_path(patch: Patch) -> str:
    """The path of a mutant's file."""
    return f"csrc/{find_source(patch.path).as_posix()}"


def asked(patch: Patch, path: str, only: Sequence[str] | None) -> bool:
    """Whether a mutant is asked for, by its name or by the beginning of its file's path."""
    return not only or patch.name in only or any(path.startswith(o) for o in only)


def print_row(row: dict) -> None:
    """Print the outcome of a mutant."""
    what, outcome = f"{row['mutant']} ({row['file']})", f"{row['outcome']} in {row['seconds']} s"
    print(f"{what}: {outcome}: {row['message']}", flush=True)


def choose(
    parser: argparse.ArgumentParser,
    every: Sequence[Patch],
    path_of: Callable[[Patch], str],
    only: Sequence[str] | None,
) -> list[Patch]:
    """The mutants that are asked for; it is an error to ask for none."""
    chosen = [patch for patch in every if asked(patch, path_of(patch), only)]
    if not chosen:
        parser.error(f"no mutant has a name, or a file whose path begins, as one of {only}")
    return chosen


def _run_all(
    unchanged, device: str, profile: str, chosen: Sequence[Patch], jobs: int
) -> list[dict]:
    """A row for each mutant; none if a claim fails for the unchanged library."""
    needed = dict.fromkeys((backend(patch, device), patch.detected_by) for patch in chosen)
    with ThreadPoolExecutor(jobs) as pool:
        healthy = pool.map(lambda asked: run_claim(unchanged.path, device, profile, *asked), needed)
        for asked, done in zip(needed, healthy, strict=True):
            if done.returncode != _PASSED or " passed" not in done.stdout:
                print(done.stdout[-3000:], done.stderr[-3000:])
                print(f"{asked} fails for the unchanged library: no mutant can be run")
                return []
        return gather(pool, lambda patch: _row(patch, unchanged, device, profile), chosen)


def gather(
    pool: ThreadPoolExecutor, row_of: Callable[[Patch], dict], chosen: Sequence[Patch]
) -> list[dict]:
    """A row for each mutant, printed as it comes; on SIGTERM or Ctrl-C those that have come."""
    rows = []
    try:
        for row in pool.map(row_of, chosen):
            rows.append(row)
            print_row(row)
    except KeyboardInterrupt as stop:
        pool.shutdown(wait=False, cancel_futures=True)
        print(f"{stop or 'interrupted'}: {len(rows)} of {len(chosen)} mutants were run")
    return rows


def _row(patch: Patch, unchanged, device: str, profile: str) -> dict:
    start = time.monotonic()
    with unchanged.mutant(patch, device) as library:
        done = run_claim(library, device, profile, backend(patch, device), patch.detected_by)
    outcome, message = outcome_of(done, patch)
    return {
        "device": device,
        "mutant": patch.name,
        "file": source_path(patch),
        "outcome": outcome,
        "killed by": patch.detected_by.partition("::test_")[2].replace("_", " "),
        "message": message,
        "seconds": round(time.monotonic() - start),
    }


if __name__ == "__main__":
    sys.exit(main())
