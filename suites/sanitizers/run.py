# SPDX-License-Identifier: BSD-3-Clause
"""Memory safety: the suite on the CPU library under sanitizers, small problems under CUDA's.

    python -m suites.sanitizers cpu                      # AddressSanitizer, UndefinedBehavior-
    python -m suites.sanitizers cpu --profile brief      # ... in a minute or two
    python -m suites.sanitizers cuda --report reports/h200     # compute-sanitizer, all its tools

On the CPU, the library is built aside with the sanitizers. They are tested first: mutants with
memory errors must end with a sanitizer's report. On CUDA, `suites.sanitizers.cases` runs under
memcheck, racecheck, initcheck and synccheck at once, with an allocation of its own for each tensor.
racecheck must also report each of the mutants that have a race.

racecheck cannot follow the order that `__syncwarp()` establishes where the compiler turns it into a
branch. It runs on a build of the same sources in which each lane of a warp arrives at a barrier
itself, so it needs nvcc; `--tool` chooses tools that do not. The complete output of a tool that
finds something is written next to the report.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from suites.mutants.patches import ROOT
from suites.mutants.patches_memory import MEMORY
from suites.mutants.rebuild import build_for_racecheck, build_sanitized
from suites.sanitizers import cuda
from suites.sanitizers.cuda import TOOLS, Run

_FOUND = re.compile(r"ERROR: AddressSanitizer: ([\w-]+)|runtime error: (.+)")
_OWN_WORDS = re.compile(r"^==\d+==|AddressSanitizer|UndefinedBehaviorSanitizer|runtime error: ")
_TEST_WORDS = re.compile(r"^(FAILED|ERROR|E  |Fatal Python error)|: error: |^\w*Error: ")
_MOST_LINES, _MOST_TAIL = 15, 3000  # of each kind; characters


# ---- the CPU library


def environment() -> dict[str, str]:
    """The environment in which a Python process can load the sanitized library.

    Raises:
        RuntimeError: if the compiler has no AddressSanitizer.
    """
    runtime = _runtime("libasan.so")
    if runtime is None:
        raise RuntimeError("this compiler has no AddressSanitizer (libasan.so)")
    # AddressSanitizer looks up the C++ runtime's `throw` once, at its start, and Python does not
    # load that runtime: without it, the first exception of an extension ends the process.
    cxx = _runtime("libstdc++.so.6") or _runtime("libc++.so.1")
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(filter(None, (runtime, cxx))),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python does not free everything at its end
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "OMP_NUM_THREADS": "2",
    }


def _runtime(name: str) -> str | None:
    """The path of one of the compiler's own libraries."""
    from build_support.libraries import compiler

    asked = [*(compiler() or ["c++"]), f"-print-file-name={name}"]
    path = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else None


def under_sanitizers(library: Path, words: Sequence[str]) -> subprocess.CompletedProcess:
    """Run the suite on a sanitized library; output and errors together."""
    command = [sys.executable, "-m", "pytest", *words, "--backend", "dcnv2", "--device", "cpu"]
    return subprocess.run(
        [*command, "--library", str(library), "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finding(output: str) -> str:
    """What a sanitizer reported; empty if nothing."""
    found = _FOUND.search(output)
    return (found[1] or found[2]) if found else ""


def digest(output: str) -> str:
    """The telling lines of an output that can be long, then its end.

    The cause is above the end: a sanitizer prints it before the stack, and pytest before its
    summary.
    """
    lines, parts = output.splitlines(), []
    for heading, words in (("the sanitizer", _OWN_WORDS), ("the tests", _TEST_WORDS)):
        said = [line for line in lines if words.search(line)][:_MOST_LINES]
        parts += [f"---- {heading}:", *said] if said else []
    return "\n".join([*parts, "---- the end of the output:", output[-_MOST_TAIL:]])


def check_cpu(profile: str) -> tuple[pd.DataFrame, str]:
    """Rows of the mutants and of the suite, and the output of the suite if a claim failed."""
    built, rows = build_sanitized(), []
    for patch in MEMORY:
        with tempfile.TemporaryDirectory(prefix="dcnv2_mutant_") as folder:
            library = built.build_mutant(patch, "cpu", Path(folder))
            claim = str(ROOT / "suites" / "correctness" / patch.detected_by)
            found = finding(under_sanitizers(library, [claim, "-x", "-s"]).stdout)
        rows.append(_row(f"mutant: {patch.name}", found or "**nothing**", bool(found)))
    with tempfile.TemporaryDirectory() as folder:
        suite = ["suites/correctness", "--profile", profile, "--report", folder]
        done = under_sanitizers(built.path, suite)
        written = Path(folder, "correctness.csv")
        checked = pd.read_csv(written)["checked"].sum() if written.is_file() else 0
    found = finding(done.stdout) or ("nothing" if done.returncode == 0 else "the suite fails")
    what = f"the suite, {checked} problems of profile {profile}"
    rows.append(_row(what, found, done.returncode == 0 and checked > 0))
    return pd.DataFrame(rows), "" if rows[-1]["right"] else digest(done.stdout)


def _row(checked: str, found: str, right: bool) -> dict:
    return {"sanitizers": "address, undefined", "checked": checked, "found": found, "right": right}


# ---- the CUDA library


def check_cuda(options: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, Run]]:
    """Rows of the tools and of the mutants with a race, and the runs that are not right."""
    tools = tuple(options.tool or TOOLS)
    sanitizer = cuda.find(options.sanitizer)
    built = build_for_racecheck() if "racecheck" in tools else None
    own = {"racecheck": built.path} if built else {}
    runs = cuda.run_tools(sanitizer, tools, options.timeout, own)
    rows = [run.row() for run in runs]
    wrong = {run.tool: run for run, row in zip(runs, rows, strict=True) if not row["right"]}
    races = cuda.run_racecheck(sanitizer, built, options.timeout) if built else []
    for number, (run, patch) in enumerate(races):
        rows.append(run.mutant_row(patch))
        if not rows[-1]["right"]:
            wrong[f"racecheck_mutant_{number}"] = run
    return pd.DataFrame(rows).assign(tool=cuda.version(sanitizer)), wrong


def report_wrong(wrong: dict[str, Run], folder: Path) -> dict[str, pd.DataFrame]:
    """Write the output of each tool to a file, and print a digest; tables of hazards by tool."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for stale in folder.glob("sanitizer_*.txt"):
        stale.unlink()
    for name, run in wrong.items():
        file = folder / f"sanitizer_{name}.txt"
        file.write_text(run.output)
        found = cuda.hazards(run.output)
        print(f"---- {name}: {run.summary or 'no summary'}; the complete output is in {file}")
        if len(found):
            tables[name] = found
            print(found.to_string(index=False))
        else:
            print(digest(run.output))
    return tables


def main(words: Sequence[str] | None = None) -> int:
    """Check a library; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.sanitizers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("--profile", default="default", help="of the suite, on the CPU")
    parser.add_argument("--tool", action="append", choices=TOOLS, help="on CUDA; default: all")
    parser.add_argument(
        "--timeout", type=float, default=1800, metavar="S", help="of a tool on CUDA, in seconds"
    )
    parser.add_argument(
        "--sanitizer",
        metavar="PATH",
        help="of CUDA; default: a package's, or the toolkit's",
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write sanitizers.md there")
    options = parser.parse_args(words)
    tables: dict[str, pd.DataFrame] = {}
    if options.device == "cpu":
        rows, found = check_cpu(options.profile)
        print(rows.to_string(index=False))
        if found:
            print(found)
    else:
        rows, wrong = check_cuda(options)
        print(rows.to_string(index=False))
        tables = report_wrong(wrong, options.report or ROOT / "build" / "sanitizers")
    if options.report:
        from suites.reporting import report

        shown = rows.drop(columns="right")
        path = report.write_report(
            "sanitizers",
            rows,
            title="Memory safety",
            sections={
                "What the sanitizers found": shown,
                **{f"Hazards by {name}": table for name, table in tables.items()},
            },
            headline=shown,
            directory=options.report,
        )
        print(f"wrote {path}")
    return int(not rows["right"].all())
