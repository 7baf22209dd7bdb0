# SPDX-License-Identifier: BSD-3-Clause
"""What a detector gets right and wrong at one score threshold: by class, and by image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

# A detection and an object match if their boxes have at least this IoU.
MATCH_IOU = 0.5
BACKGROUND = "background"


@dataclass
class Errors:
    """The detections of at least a score, compared with the objects.

    Attributes:
        threshold: the score.
        confusion: number of objects by true class (rows) and detected class (columns). The row
            `background` counts false detections, the column `background` missed objects.
        per_class: rows of `class`, `objects`, `detections`, `right`, `precision`, `recall`, `f1`;
            NaN where there is nothing to divide by.
        per_image: rows of `image_id`, `objects`, `right`, `wrong_class`, `missed`, `false`, those
            with most errors first.
    """

    threshold: float
    confusion: pd.DataFrame
    per_class: pd.DataFrame
    per_image: pd.DataFrame


def find_errors(
    truth: COCO, results: Sequence[dict[str, Any]], image_ids: Sequence[int], threshold: float
) -> Errors:
    """Compares detections with objects, by their boxes.

    In an image, pairs of equal class are matched first, then the others, each by descending IoU.
    A detection without a match that lies by half on a region to ignore of its class is left out.

    Args:
        truth: annotations.
        results: detections in COCO's result format.
        image_ids: the images that were evaluated.
        threshold: minimum score of a detection.
    """
    categories = sorted(truth.cats)
    place = {category: index for index, category in enumerate(categories)}
    names = [truth.cats[category]["name"] for category in categories]
    found = defaultdict(list)
    for result in results:
        if result["score"] >= threshold:
            found[result["image_id"]].append(result)
    confusion = np.zeros((len(names) + 1, len(names) + 1), np.int64)
    rows = []
    for image_id in sorted(image_ids):
        detections = sorted(found[image_id], key=lambda result: -result["score"])
        annotations = truth.imgToAnns[image_id]
        counts = _count(annotations, detections, place)
        confusion += counts
        right, missed, false = np.trace(counts), counts[:-1, -1].sum(), counts[-1].sum()
        objects = counts[:-1].sum()
        row = {"objects": objects, "right": right, "wrong_class": objects - right - missed}
        rows.append({"image_id": image_id, **row, "missed": missed, "false": false})
    per_image = pd.DataFrame(
        rows, columns=["image_id", "objects", "right", "wrong_class", "missed", "false"]
    )
    errors = per_image[["wrong_class", "missed", "false"]].sum(axis=1)
    per_image = per_image.loc[errors.sort_values(ascending=False, kind="stable").index]
    labels = [*names, BACKGROUND]
    table = pd.DataFrame(confusion, index=pd.Index(labels, name="truth"), columns=labels)
    return Errors(threshold, table, _per_class(confusion, names), per_image.reset_index(drop=True))


def _count(
    annotations: Sequence[dict[str, Any]],
    detections: Sequence[dict[str, Any]],
    place: dict[int, int],
) -> np.ndarray:
    """Returns the confusion matrix of one image [C + 1, C + 1]; the last is the background."""
    background = len(place)
    counts = np.zeros((background + 1, background + 1), np.int64)
    objects = [entry for entry in annotations if not entry["iscrowd"]]
    ignored = [entry for entry in annotations if entry["iscrowd"]]
    truth = np.array([place[entry["category_id"]] for entry in objects], np.int64)
    guess = np.array([place[entry["category_id"]] for entry in detections], np.int64)
    overlaps = _overlaps(detections, objects)
    open_truth, open_guess = set(range(len(truth))), set(range(len(guess)))
    rows, columns = np.nonzero(overlaps >= MATCH_IOU)
    differs = guess[rows] != truth[columns]
    for index in np.lexsort((rows, -overlaps[rows, columns], differs)):
        row, column = int(rows[index]), int(columns[index])
        if row in open_guess and column in open_truth:
            open_guess.remove(row)
            open_truth.remove(column)
            counts[truth[column], guess[row]] += 1
    for column in open_truth:
        counts[truth[column], background] += 1
    covered = _overlaps(detections, ignored) >= MATCH_IOU
    kinds = np.array([place[entry["category_id"]] for entry in ignored], np.int64)
    for row in open_guess:
        if not (covered[row] & (kinds == guess[row])).any():
            counts[background, guess[row]] += 1
    return counts


def _overlaps(
    detections: Sequence[dict[str, Any]], objects: Sequence[dict[str, Any]]
) -> np.ndarray:
    """Returns the IoU of boxes [D, G]; of regions to ignore, the share of the detection in them."""
    if not detections or not objects:
        return np.zeros((len(detections), len(objects)))
    first, second = (
        np.array([entry["bbox"] for entry in entries], np.float64)
        for entries in (detections, objects)
    )
    return np.asarray(coco_mask.iou(first, second, [entry["iscrowd"] for entry in objects]))


def _per_class(confusion: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    right = np.diag(confusion)[:-1]
    objects, detections = confusion[:-1].sum(axis=1), confusion[:, :-1].sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / detections, right / objects
        f1 = 2 * right / (objects + detections)
    columns = {"objects": objects, "detections": detections, "right": right}
    columns |= {"precision": precision, "recall": recall, "f1": f1}
    return pd.DataFrame({"class": list(names), **columns})
