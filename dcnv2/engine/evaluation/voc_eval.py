# SPDX-License-Identifier: BSD-3-Clause
"""Pascal VOC's mean average precision, as defined by the challenges from 2007 to 2012."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pycocotools.coco import COCO

from dcnv2.engine.evaluation.coco_eval import Scores

IOU_THRESHOLD = 0.5


def voc_scores(
    truth: COCO,
    results: list[dict[str, Any]],
    image_ids: Sequence[int],
    eleven_points: bool = False,
) -> Scores:
    """Scores boxes by VOC's rules: IoU above 0.5, one match per object, difficult ones ignored.

    Args:
        truth: annotations; `iscrowd` marks difficult objects, as in `VocDataset`.
        results: in COCO's result format.
        image_ids: the images that were evaluated.
        eleven_points: precision at recalls 0, 0.1, ..., 1 (until 2007) instead of the area under
            the curve (from 2010 on).

    Returns:
        `box_mAP50`, AP per class, and the mean curve over classes.
    """
    chosen = set(image_ids)
    rows, curves = [], []
    grid = np.linspace(0, 1, 101)
    for category, entry in truth.cats.items():
        annotations = [
            a
            for a in truth.dataset["annotations"]
            if a["category_id"] == category and a["image_id"] in chosen
        ]
        found = [r for r in results if r["category_id"] == category and r["image_id"] in chosen]
        recall, precision = _curve(annotations, found)
        ap = np.nan
        if any(not a["iscrowd"] for a in annotations):
            ap = _at_eleven_points(recall, precision) if eleven_points else _area(recall, precision)
            curves.append([precision[recall >= r].max(initial=0.0) for r in grid])
        rows.append({"class": entry["name"], "kind": "box", "AP": ap, "AP50": ap})
    per_class = pd.DataFrame(rows, columns=["class", "kind", "AP", "AP50"])
    mean = np.mean(curves, axis=0) if curves else np.full_like(grid, np.nan)
    columns = {"kind": "box", "iou": IOU_THRESHOLD, "recall": grid, "precision": mean}
    return Scores({"box_mAP50": per_class["AP"].mean()}, per_class, pd.DataFrame(columns))


def _curve(
    annotations: list[dict[str, Any]], found: list[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns recall and precision after each detection of a class, by descending score."""
    of_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in annotations:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    taken: set[int] = set()
    right, wrong = [], []
    for result in sorted(found, key=lambda r: -r["score"]):
        objects = of_image.get(result["image_id"], [])
        overlaps = [_iou(result["bbox"], a["bbox"]) for a in objects]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] > IOU_THRESHOLD
        if hit and objects[best]["iscrowd"]:
            continue  # a match with a difficult object counts neither as right nor as wrong
        first = hit and objects[best]["id"] not in taken
        if first:
            taken.add(objects[best]["id"])
        right.append(first)
        wrong.append(not first)
    hits, misses = np.cumsum(right, dtype=float), np.cumsum(wrong, dtype=float)
    count = sum(not a["iscrowd"] for a in annotations)
    return hits / max(count, 1), hits / np.maximum(hits + misses, 1)


def _iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns the IoU of two boxes (x, y, width, height)."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    common = max(width, 0.0) * max(height, 0.0)
    return common / (first[2] * first[3] + second[2] * second[3] - common)


def _at_eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    # k / 10, not a sum of rounded tenths: a recall of 0.3 must reach the point 0.3.
    points = [precision[recall >= k / 10].max(initial=0.0) for k in range(11)]
    return float(np.mean(points))


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Returns the area under the monotone envelope: the best precision at any higher recall."""
    edges = np.concatenate([[0.0], recall])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(edges) * best))
