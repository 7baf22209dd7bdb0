# SPDX-License-Identifier: BSD-3-Clause
"""What the smoke run trains on, and which results it requires."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MODELS = ("plain", "dcnv1", "dcnv2", "dcnv2_mimic")
# Time of a training step relative to `plain`, for the estimate of the time left.
STEP_COSTS = {"plain": 1.0, "dcnv1": 1.1, "dcnv2": 1.3, "dcnv2_mimic": 1.55}
# Least mask AP50 on the embedded set.
MARKS = {"plain": 0.4, "dcnv1": 0.4, "dcnv2": 0.65, "dcnv2_mimic": 0.6}
CLASSES = ("ellipse", "ring", "crescent", "gear", "worm")
TRAIN_IMAGES, VAL_IMAGES, SIDE = 2400, 150, 128


@dataclass
class Suite:
    """A data set with requirements.

    Attributes:
        report: Name of the report.
        title: Heading of the report.
        configs: Folder of the configurations.
        about: Description of the data, for the report.
        words: Command-line words on top of the configurations.
        marks: Least value of a column, by model and column.
    """

    report: str
    title: str
    configs: str
    about: str
    words: list[str]
    marks: dict[tuple[str, str], float] = field(default_factory=dict)


def shapes_suite(root: Path) -> Suite:
    """The embedded data set in a folder."""
    return Suite(
        "coco_smoke",
        "Smoke run on the embedded data set: three operators, and feature mimicking",
        "smoke",
        f"{TRAIN_IMAGES} generated pictures of {SIDE} x {SIDE} pixels for training and "
        f"{VAL_IMAGES} for evaluation: {len(CLASSES)} classes of warped, textured, occluded shapes "
        f"({', '.join(CLASSES)}). Some pictures have no objects, some have crowd regions.",
        [f"--data.root={root}"],
        {(name, "mask_AP50"): mark for name, mark in MARKS.items()},
    )


def coco_suite(root: str) -> Suite:
    """A slice of a real COCO folder."""
    return Suite(
        "coco_slice",
        "Smoke run on a slice of COCO: three operators, and feature mimicking",
        "coco_slice",
        "The first images of COCO's train and val splits, by id, at 256 pixels.",
        [f"--data.root={root}"],
    )
