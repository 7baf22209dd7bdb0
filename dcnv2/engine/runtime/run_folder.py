# SPDX-License-Identifier: BSD-3-Clause
"""The folder of a run: its configuration, environment, and a page that explains the files."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Collection

import pandas as pd

from dcnv2 import doctor
from dcnv2.data.whole_files import make_folder
from dcnv2.engine.config import RunConfig, to_yaml
from dcnv2.engine.runtime.files import write_atomically

CONTENTS = {
    "config.yaml": "the complete configuration; commands accept this file, or this folder",
    "environment.txt": "command, versions, machine, and the implementations of the operators",
    "log.txt": "the log, with times",
    "metrics.csv": "losses, learning rate, speed, memory and offsets; one row every few steps",
    "eval.csv": "results, one row per evaluation",
    "eval_classes.csv": "average precision by class; this and what follows: newest evaluation",
    "curves.csv": "precision at each recall",
    "confusion.csv": "objects by true and detected class, at eval.draw_threshold and IoU 0.5",
    "errors_classes.csv": "precision and recall by class, at the same threshold",
    "errors_images.csv": "right, missed and false detections by image, the worst first",
    "detections_bbox.json": "the detected boxes in COCO's result format",
    "detections_segm.json": "the detected masks in COCO's result format",
    "pictures/": "predictions on some images, precision-recall curves, precision by object size",
    "checkpoints/": "the newest, and the best, which `best.json` names",
    "tensorboard/": "metrics and results as curves: `tensorboard --logdir` this folder",
}
PACKAGES = ("torch", "torchvision", "numpy", "pycocotools", "safetensors")


def begin_folder(config: RunConfig) -> None:
    """Creates a run's folder with its configuration, environment and explaining page."""
    folder = config.folder
    make_folder(folder)
    write_atomically(folder / "config.yaml", to_yaml(config))
    write_atomically(folder / "environment.txt", environment())
    if not (folder / "README.md").exists():
        write_atomically(folder / "README.md", describe(config))


def environment() -> str:
    """Returns the command, versions, and the report of `dcnv2 doctor`."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    lines = [
        shlex.join(sys.argv),
        f"Python {platform.python_version()} on {platform.platform()}",
        ", ".join(versions),
        "",
        doctor.report(),
    ]
    return "\n".join(lines) + "\n"


def describe(
    config: RunConfig, row: pd.DataFrame | None = None, contents: Collection[str] = CONTENTS
) -> str:
    """Returns the page: model and data, the newest result, and the purpose of each file.

    Args:
        config: the run.
        row: one row of results, None before the first evaluation.
        contents: names of the files to explain.
    """
    model, data, options = config.model, config.data, config.train
    backbone = model.backbone
    convs = ", ".join(f"conv{i} {kind}" for i, kind in enumerate(backbone.convs, start=2))
    lines = [
        f"# {config.name}",
        "",
        f"{backbone.arch} ({convs}), {model.num_classes} classes, on {data.root} ({data.train}); "
        f"{options.steps} steps of {options.batch_size} images.",
    ]
    if row is not None:
        shown = [
            c
            for c in map(str, row)
            if c == "step" or c.endswith(("_AP", "_AP50", "_mAP50", "_AR1000"))
        ]
        texts = {
            str(c): f"{v:.3f}" if c != "step" else f"{v:.0f}" for c, v in row[shown].iloc[0].items()
        }
        lines += ["", f"| {' | '.join(texts)} |", f"|{'---:|' * len(texts)}"]
        lines += [f"| {' | '.join(texts.values())} |"]
    lines += ["", "| file | contents |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in CONTENTS.items() if name in contents]
    return "\n".join(lines) + "\n"
