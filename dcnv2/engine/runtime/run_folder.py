# SPDX-License-Identifier: BSD-3-Clause
"""A run's folder, made so that a person understands it at a glance."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from dcnv2 import doctor
from dcnv2.engine.config import RunConfig, to_yaml

CONTENTS = {
    "config.yaml": "the configuration as it was resolved: `dcnv2 train` and others take it, or "
    "this folder",
    "environment.txt": "command, versions, machine, and which kernels were used",
    "log.txt": "what was said, with times",
    "metrics.csv": "losses, rate, pace, memory and offsets in training, a row every few steps",
    "eval.csv": "a row an evaluation",
    "eval_classes.csv": "average precision by class, of the newest evaluation, as all below",
    "curves.csv": "precision at each recall",
    "detections_bbox.json": "the boxes that were found, as COCO's server takes them",
    "detections_segm.json": "the masks that were found, as COCO's server takes them",
    "pictures/": "predictions on some images, precision over recall, precision by object size",
    "checkpoints/": "the newest, and the best as `best.json` names it",
    "tensorboard/": "the same as curves: `tensorboard --logdir` this folder",
}
PACKAGES = ("torch", "torchvision", "numpy", "pycocotools", "safetensors")


def begin_folder(config: RunConfig) -> None:
    """Makes a run's folder, with its configuration, environment and a page that explains it."""
    folder = config.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.yaml", to_yaml(config))
    write_whole(folder / "environment.txt", environment())
    if not (folder / "README.md").exists():
        write_whole(folder / "README.md", describe(config))


def environment() -> str:
    """The command, versions, and what `dcnv2 doctor` says."""
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
    """The page: what was trained on what, the newest result, and what each file is.

    Args:
        config: the run.
        row: one row of results, if there are some.
        contents: names of the files that are explained.
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
    lines += ["", "| file | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in CONTENTS.items() if name in contents]
    return "\n".join(lines) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Writes a file aside and renames it: a reader, or a run that goes on, sees it whole."""
    aside = path.with_name(f".{path.name}.writing")
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
