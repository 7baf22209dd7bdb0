# SPDX-License-Identifier: BSD-3-Clause
"""The smoke run: trains small Mask R-CNNs that differ only in the operator, and one with mimicking.

`python -m suites.coco.smoke` generates the embedded data set, trains from scratch, evaluates boxes
and masks with pycocotools, and writes a report to the folder of the run. `--report` writes it to
reports/ instead. The number of steps is fixed, so a slow machine changes the time and not the
score. `--seeds 3` trains each model three times and reports means and spreads. SIGINT (Ctrl-C) and
SIGTERM end the run within ten seconds; `--resume` continues it. With DCNV2_COCO=/path/to/coco it
trains and evaluates on a slice of that COCO folder.

Exits with 1 if a model learns nothing, misses its mark, or differs from the results that its
configuration expects; with 75 if it was ended by a signal.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import load_config
from dcnv2.engine.evaluation.evaluate import UnexpectedResultError, check_expected
from dcnv2.engine.runtime.device import pick_device
from dcnv2.engine.runtime.signals import EXIT_STOPPED, RunStoppedError
from suites.coco import smoke_suite
from suites.coco.parallel import StopRequest, cores, run_all
from suites.coco.progress import Progress, Training
from suites.coco.report import LEARNED_LOSS, learned, missed_marks, summary, write
from suites.coco.smoke_suite import MODELS, STEP_COSTS, Suite
from suites.coco.train_model import (
    configure,
    finished_row,
    label,
    run_folder,
    run_model,
    state,
)
from suites.reporting.folders import report_dir
from suites.reporting.provenance import provenance


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the words for the configurations."""
    parser = argparse.ArgumentParser(prog="python -m suites.coco.smoke", description=__doc__)
    add = parser.add_argument
    add("--folder", type=Path, default=Path("runs/coco_smoke"), help="folder of the run")
    add("--models", nargs="+", choices=MODELS, default=MODELS)
    add("--seeds", type=int, default=1, help="trainings per model")
    add("--jobs", type=int, help="trainings at a time (default: one per core)")
    add(
        "--report",
        nargs="?",
        const="",
        metavar="DIR",
        help="folder of the report (default of DIR: reports/, or the GPU's folder in it)",
    )
    add("--resume", action="store_true", help="continue the run in the folder")
    return parser.parse_known_args(words)


def choose_suite(options: argparse.Namespace) -> Suite:
    """COCO if its folder is given, else the embedded data set."""
    coco = os.environ.get("DCNV2_COCO")
    if coco:
        return smoke_suite.coco_suite(coco)
    return smoke_suite.shapes_suite(options.folder / "shapes")


def generate_shapes(root: Path, folder: Path, stop: StopRequest) -> None:
    """Generate the embedded data set."""
    sizes = (smoke_suite.TRAIN_IMAGES, smoke_suite.VAL_IMAGES, smoke_suite.SIDE)
    print(f"generating {sizes[0] + sizes[1]} pictures in {root}", file=sys.stderr, flush=True)
    call = (write_shapes, (root, *sizes, 0, smoke_suite.CLASSES))
    run_all({"data_set": call}, 1, folder, stop)


def train_all(
    options: argparse.Namespace, overrides: Sequence[str], suite: Suite, stop: StopRequest
) -> pd.DataFrame:
    """Train every model with every seed, unless it has finished; return a row per training."""
    runs = [(name, seed) for seed in range(options.seeds) for name in options.models]
    configs = {run: configure(suite, *run, options.folder, overrides) for run in runs}
    rows = {run: finished_row(config) for run, config in configs.items()}
    # The last models take longest and begin first.
    order = sorted(runs, key=lambda run: (run[1], -MODELS.index(run[0])))
    order = [run for run in order if rows[run] is None]
    calls = {
        label(*run): (run_model, (suite, *run, options.folder, list(overrides))) for run in order
    }
    trainings = {
        label(*run): Training(configs[run].folder, configs[run].train.steps, STEP_COSTS[run[0]])
        for run in order
    }
    jobs = options.jobs or (cores() if pick_device("auto").type == "cpu" else 1)
    progress = Progress(trainings, max(min(jobs, len(calls)), 1))
    try:
        results = run_all(calls, progress.jobs, options.folder, stop, progress)
    finally:
        progress.close()
    return pd.DataFrame([rows[run] or results[label(*run)] for run in runs])


def faults_of(suite: Suite, rows: pd.DataFrame, words: Sequence[str]) -> list[str]:
    """What is wrong with the results, a sentence each.

    Args:
        suite: Has the marks; its configurations have the expected results.
        rows: Rows of `run_model`.
        words: Words of the command line, on top of the configurations.
    """
    faults = [
        f"{label(row.model, row.seed)} learned nothing: its loss went from {row.first_loss:.3g} to "
        f"{row.last_loss:.3g}, required is less than {LEARNED_LOSS:g} of the first"
        for row in rows.itertuples()
        if not learned(row.first_loss, row.last_loss)
    ]
    faults += missed_marks(rows, suite.marks)
    for index in rows.index:
        row = rows.loc[[index]]
        name, seed = row[["model", "seed"]].iloc[0]
        try:
            check_expected(row, load_config(f"{suite.configs}/{name}", words).eval.expected)
        except UnexpectedResultError as error:
            faults.append(f"{label(name, seed)}: {error}")
    return faults


def print_stopped(options: argparse.Namespace, words: Sequence[str], reason: str) -> None:
    """Say how far each training has come, and how to continue."""
    print(f"The run was {reason}.", file=sys.stderr)
    for seed in range(options.seeds):
        for name in options.models:
            home = run_folder(options.folder, name, seed)
            print(f"  {label(name, seed)}: {state(home)}", file=sys.stderr)
    again = shlex.join([*(word for word in words if word != "--resume"), "--resume"])
    print(f"To continue: python -m suites.coco.smoke {again}", file=sys.stderr)
    print(f"         or: tox -e coco-smoke -- {again}", file=sys.stderr)


def main(words: Sequence[str] | None = None) -> int:
    """Run the suite; return the exit status."""
    words = list(sys.argv[1:] if words is None else words)
    options, overrides = parse(words)
    with StopRequest() as stop:
        try:
            return run(options, overrides, stop)
        except RunStoppedError as stopped:
            print_stopped(options, words, str(stopped))
            return EXIT_STOPPED


def run(options: argparse.Namespace, overrides: Sequence[str], stop: StopRequest) -> int:
    """Train, evaluate and report; return the exit status."""
    if not options.resume:
        shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    suite = choose_suite(options)
    if "DCNV2_COCO" not in os.environ:
        generate_shapes(options.folder / "shapes", options.folder, stop)
    rows = train_all(options, overrides, suite, stop)
    directory = options.folder
    if options.report is not None:
        directory = Path(options.report or report_dir(str(pick_device("auto"))))
    call = (write, (suite, rows, options.folder, directory, provenance()))
    path = run_all({"report": call}, 1, options.folder, stop)["report"]
    print(summary(rows).to_string(index=False))
    print(f"report: {path}")
    faults = faults_of(suite, rows, overrides)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
