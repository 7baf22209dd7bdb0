# SPDX-License-Identifier: BSD-3-Clause
"""The smoke run: small Mask R-CNNs that differ in the operator alone, trained equally long, and one
more with feature mimicking.

`python -m suites.coco.smoke` draws the embedded data set, trains from scratch, evaluates boxes and
masks with pycocotools and writes reports/coco_smoke.*. Steps are fixed, so a slow machine changes
the time and not the score. With DCNV2_COCO=/path/to/coco it trains and evaluates on a slice of that
COCO folder instead, and writes reports/coco_slice.*.

Exits with 1 where a model learned nothing, or where DCNv2 misses its mark.
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
from torch import Tensor

from dcnv2.data.shapes import write_shapes
from dcnv2.engine.checkpoint import restore
from dcnv2.engine.config import RunConfig, load_config
from dcnv2.engine.datasets import open_val
from dcnv2.engine.device import pick_device
from dcnv2.engine.predict import prediction_sheet
from dcnv2.engine.train import train
from suites.coco.figures import draw_curves, draw_sheet
from suites.coco.parallel import cores, run_all
from suites.coco.report import LEARNED_LOSS, differences, learned, missed_marks, summary
from suites.reporting import report_dir, write_report

MODELS = ("plain", "dcnv1", "dcnv2", "dcnv2_mimic")
# Least mask AP50 on the embedded set.
MARKS = {"plain": 0.4, "dcnv1": 0.4, "dcnv2": 0.65, "dcnv2_mimic": 0.6}
CLASSES = ("ellipse", "ring", "crescent", "gear", "worm")
TRAIN_IMAGES, VAL_IMAGES = 2400, 150
SHEET_IMAGES = 7


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
        [f"--data.root={root}", f"--model.num_classes={len(CLASSES)}"],
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


def run_model(suite: Suite, name: str, folder: Path, words: Sequence[str]) -> dict:
    """Trains and evaluates one model.

    Returns:
        A row: parameters, steps, threads, minutes, median step time, first and last loss, COCO's
        numbers.
    """
    config = load_config(
        f"{suite.configs}/{name}", [*suite.words, f"--output={folder}", f"--name={name}", *words]
    )
    began = time.perf_counter()
    result = train(config)
    minutes = (time.perf_counter() - began) / 60
    metrics = pd.read_csv(config.folder / "metrics.csv")
    model, _ = restore(config, None, torch.device("cpu"))
    return {
        "model": name,
        "convolutions": config.model.backbone.convs[-1],
        "pooling": config.model.box.pool.kind,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": config.train.steps,
        "threads": torch.get_num_threads(),
        "minutes": minutes,
        "step_ms": metrics["step_ms"].median(),
        "first_loss": metrics["loss"].iloc[0],
        "last_loss": metrics["loss"].tail(3).mean(),
        **result.drop(columns=["step"]).iloc[0].to_dict(),
    }


def pictures_of(config: RunConfig) -> tuple[list[Tensor], list[Tensor]]:
    """Pictures of held-out images with the model's predictions, and with the truth."""
    device = pick_device(config.device)
    model, _ = restore(config, None, device)
    dataset = open_val(config.data, masks=True)
    # The first images with objects; a picture without says little.
    filled = [i for i in range(len(dataset)) if len(dataset.target(i)["labels"])]
    return prediction_sheet(model, dataset, filled[:SHEET_IMAGES], config, device)


def write(suite: Suite, rows: pd.DataFrame, folder: Path, directory: Path) -> None:
    """Writes tables and pictures of the runs in `folder`."""
    directory.mkdir(parents=True, exist_ok=True)
    names = rows["model"].tolist()
    metrics = {name: pd.read_csv(folder / name / "metrics.csv") for name in names}
    curves, sheet = f"{suite.report}_curves.png", f"{suite.report}_predictions.png"
    draw_curves(metrics, directory / curves)
    lines = []
    for name in names:
        predicted, truth = pictures_of(load_config(folder / name))
        lines.append((name, predicted))
    draw_sheet([("truth", truth), *lines], directory / sheet)
    classes = pd.concat(
        pd.read_csv(folder / name / "eval_classes.csv").assign(model=name) for name in names
    )
    by_class = classes[classes["kind"] == "mask"].pivot_table(
        index="class", columns="model", values="AP50", sort=False
    )
    write_report(
        suite.report,
        rows,
        title=suite.title,
        headline=summary(rows),
        sections={
            "Results": summary(rows),
            "Data": suite.about,
            "What differs between the models": differences(rows),
            "Mask AP50 by class": by_class[names].reset_index(),
            "Cost": rows[
                ["model", "parameters", "steps", "threads", "minutes", "step_ms", "image_ms"]
            ],
        },
        pictures=[curves, sheet],
        directory=directory,
    )


def main(words: Sequence[str] | None = None) -> int:
    """Runs the suite; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m suites.coco.smoke", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/coco_smoke"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--jobs", type=int, help="trainings at a time; by default one a core")
    parser.add_argument("--reports", type=Path, help="by default reports/, or the GPU's folder")
    options, overrides = parser.parse_known_args(words)
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)

    coco = os.environ.get("DCNV2_COCO")
    suite = coco_suite(coco) if coco else shapes_suite(options.folder)
    device = pick_device("auto")
    # The last are the longest, and begin first.
    calls = {
        name: (run_model, (suite, name, options.folder, overrides))
        for name in reversed(options.models)
    }
    jobs = options.jobs or (cores() if device.type == "cpu" else 1)
    results = run_all(calls, min(jobs, len(calls)))
    rows = pd.DataFrame([results[name] for name in options.models])
    directory = options.reports or report_dir(str(device))
    write(suite, rows, options.folder, directory)
    print(summary(rows).to_string(index=False))

    faults = [
        f"{row.model} learned nothing: its loss went from {row.first_loss:.3g} to "
        f"{row.last_loss:.3g}, wanted less than {LEARNED_LOSS:g} of it"
        for row in rows.itertuples()
        if not learned(row.first_loss, row.last_loss)
    ]
    faults += missed_marks(rows, suite.marks)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
