# SPDX-License-Identifier: BSD-3-Clause
"""The smoke run: small Mask R-CNNs that differ in the operator alone, trained equally long, and one
more with feature mimicking.

`python -m suites.coco.smoke` draws the embedded data set, trains from scratch, evaluates boxes and
masks with pycocotools and writes reports/coco_smoke.*. Steps are fixed, so a slow machine changes
the time and not the score. `--seeds 3` trains each model three times, and its report has means and
spreads; `--resume` goes on with a run that was ended. With DCNV2_COCO=/path/to/coco it trains and
evaluates on a slice of that COCO folder instead, and writes reports/coco_slice.*.

Exits with 1 where a model learned nothing, misses its mark, or where the results are not those that
its configuration expects.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import RunConfig, load_config
from dcnv2.engine.evaluation.evaluate import UnexpectedResultError, check_expected
from dcnv2.engine.runtime.checkpoint import restore
from dcnv2.engine.runtime.device import pick_device
from dcnv2.engine.training.trainer import train
from suites.coco.parallel import cores, run_all
from suites.coco.report import (
    LEARNED_LOSS,
    label,
    learned,
    missed_marks,
    run_folder,
    summary,
    write,
)
from suites.reporting.folders import report_dir

MODELS = ("plain", "dcnv1", "dcnv2", "dcnv2_mimic")
# Least mask AP50 on the embedded set.
MARKS = {"plain": 0.4, "dcnv1": 0.4, "dcnv2": 0.65, "dcnv2_mimic": 0.6}
CLASSES = ("ellipse", "ring", "crescent", "gear", "worm")
TRAIN_IMAGES, VAL_IMAGES = 2400, 150


@dataclass
class Suite:
    """What is trained on, and what is demanded.

    Attributes:
        report: name of the report.
        title: its heading.
        configs: folder of the configurations.
        about: what the data are, for the report.
        words: command-line words on top of the configurations.
        marks: least value of a column for a model.
    """

    report: str
    title: str
    configs: str
    about: str
    words: list[str]
    marks: dict[tuple[str, str], float] = field(default_factory=dict)


def shapes_suite(folder: Path) -> Suite:
    """The embedded set, drawn anew: the run needs nothing but its seed."""
    root = write_shapes(folder / "shapes", TRAIN_IMAGES, VAL_IMAGES, 128, classes=CLASSES)
    return Suite(
        "coco_smoke",
        "Smoke run: three operators, and mimicking, on the embedded data set",
        "smoke",
        f"{TRAIN_IMAGES} drawn pictures of 128 x 128 pixels to train on and {VAL_IMAGES} held out: "
        f"{len(CLASSES)} classes of warped, textured, occluded shapes ({', '.join(CLASSES)}); "
        "pictures without objects and with crowd regions are among them.",
        [f"--data.root={root}"],
        {(name, "mask_AP50"): mark for name, mark in MARKS.items()},
    )


def coco_suite(root: str) -> Suite:
    """A slice of a real COCO folder."""
    return Suite(
        "coco_slice",
        "Smoke run: three operators, and mimicking, on a slice of COCO",
        "coco_slice",
        "The first images of COCO's train and val splits, by id, at 256 pixels.",
        [f"--data.root={root}"],
    )


def run_model(suite: Suite, name: str, seed: int, folder: Path, words: Sequence[str]) -> dict:
    """Trains and evaluates one model, or finishes what was begun.

    Returns:
        A row: parameters, steps, threads, minutes, share of a core, median step time, first and
        last loss, COCO's numbers.
    """
    home = run_folder(folder, name, seed)
    fixed = [f"--output={home.parent}", f"--name={name}", f"--train.seed={seed}"]
    config = load_config(f"{suite.configs}/{name}", [*suite.words, *fixed, *words])
    began, worked = time.perf_counter(), time.thread_time()
    results = None if finished(config) else train(config, resume="auto")
    passed, worked = time.perf_counter() - began, time.thread_time() - worked
    cpu_share = float("nan") if results is None else worked / passed
    if results is None:
        results = pd.read_csv(home / "eval.csv").tail(1)
    metrics = pd.read_csv(home / "metrics.csv")
    steps_ms = metrics["data_ms"] + metrics["step_ms"]
    model, _ = restore(config, None, torch.device("cpu"))
    row = {
        "model": name,
        "seed": seed,
        "convolutions": config.model.backbone.convs[-1],
        "pooling": config.model.box.pool.kind,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": config.train.steps,
        "threads": torch.get_num_threads(),
        "minutes": (steps_ms * metrics["step"].diff().fillna(metrics["step"])).sum() / 6e4,
        "cpu_share": cpu_share,
        "step_ms": metrics["step_ms"].median(),
        "first_loss": metrics["loss"].iloc[0],
        "last_loss": metrics["loss"].tail(3).mean(),
        **results.drop(columns=["step"]).iloc[0].to_dict(),
    }
    if pick_device(config.device).type != "cpu":
        del row["cpu_share"]  # what a GPU did while this process waited is not in it
    return row


def finished(config: RunConfig) -> bool:
    """Whether a run has been trained and evaluated to its end."""
    results = config.folder / "eval.csv"
    return results.is_file() and config.train.steps in pd.read_csv(results)["step"].tolist()


def faults_of(suite: Suite, rows: pd.DataFrame, words: Sequence[str]) -> list[str]:
    """What is wrong with the results, a sentence each.

    Args:
        suite: has the marks, and the configurations what they expect.
        rows: of `run_model`.
        words: of the command line, on top of the configurations.
    """
    faults = [
        f"{label(row.model, row.seed)} learned nothing: its loss went from {row.first_loss:.3g} to "
        f"{row.last_loss:.3g}, wanted less than {LEARNED_LOSS:g} of it"
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


def main(words: Sequence[str] | None = None) -> int:
    """Runs the suite; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m suites.coco.smoke", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/coco_smoke"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", type=int, default=1, help="trainings a model")
    parser.add_argument("--jobs", type=int, help="trainings at a time; by default one a core")
    parser.add_argument("--reports", type=Path, help="by default reports/, or the GPU's folder")
    parser.add_argument("--resume", action="store_true", help="keep what the folder holds")
    options, overrides = parser.parse_known_args(words)
    if not options.resume:
        shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True, exist_ok=True)

    coco = os.environ.get("DCNV2_COCO")
    suite = coco_suite(coco) if coco else shapes_suite(options.folder)
    device = pick_device("auto")
    runs = [(name, seed) for seed in range(options.seeds) for name in options.models]
    # The last models are the longest, and begin first.
    calls = {
        label(name, seed): (run_model, (suite, name, seed, options.folder, overrides))
        for seed in range(options.seeds)
        for name in reversed(options.models)
    }
    jobs = options.jobs or (cores() if device.type == "cpu" else 1)
    results = run_all(calls, min(jobs, len(calls)))
    rows = pd.DataFrame([results[label(*run)] for run in runs])
    directory = options.reports or report_dir(str(device))
    write(suite.report, suite.title, suite.about, rows, options.folder, directory)
    print(summary(rows).to_string(index=False))
    faults = faults_of(suite, rows, overrides)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
