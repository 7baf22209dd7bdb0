# SPDX-License-Identifier: BSD-3-Clause
"""COCO's metrics, computed by pycocotools or by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# Numbers of detections per class and image at which COCO measures recall, and also at its limit.
COUNTS = (1, 10)
KINDS = {"bbox": "box", "segm": "mask"}
# Index into IoU 0.5, 0.55, ..., 0.95 -> IoU of the curves that are kept.
CURVE_IOUS = {0: 0.5, 5: 0.75}


@dataclass
class Scores:
    """Metrics of an evaluation.

    Attributes:
        numbers: such as `box_AP`; NaN if there are no objects.
        per_class: rows of `class`, `kind`, `AP` and `AP50`.
        curves: rows of `kind`, `iou`, `recall` and `precision`, the mean over classes.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    per_class: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["class", "kind", "AP", "AP50"])
    )
    curves: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["kind", "iou", "recall", "precision"])
    )


def coco_scores(
    truth: COCO,
    results: list[dict[str, Any]],
    image_ids: Sequence[int],
    kinds: Sequence[str] = ("bbox", "segm"),
    class_agnostic: bool = False,
    evaluator: str = "pycocotools",
    max_detections: int = 100,
) -> Scores:
    """Scores results against the annotations of `image_ids`, images without objects included.

    Args:
        truth: annotations.
        results: in COCO's result format; may be empty.
        image_ids: the images that were evaluated; a false positive on any of them counts.
        kinds: `bbox`, `segm` or both.
        class_agnostic: score proposals: ignore classes, and measure recall at 1000 boxes per image
            instead of 1.
        evaluator: `pycocotools` or `fast`.
        max_detections: number of detections of a class and image that count, the best first; COCO
            has 100. Proposals have a limit of 1000.

    Returns:
        COCO's twelve numbers per kind (`box_AP`, ..., `mask_ARl`), and tables. AP and the recalls
        by size are those at the highest number of detections.

    Raises:
        ModuleNotFoundError: `evaluator` is `fast` and faster-coco-eval is not installed.
    """
    scores, per_class, curves = Scores(), [], []
    truth, results, image_ids = _renumbered(truth, results, image_ids)
    for kind in kinds:
        scorer = _scorer(truth, results, kind, evaluator)
        scorer.params.imgIds = sorted(image_ids)
        scorer.params.maxDets = sorted({*COUNTS, max_detections})
        scorer.params.maxDets = [n for n in scorer.params.maxDets if n <= max_detections]
        if class_agnostic:
            scorer.params.useCats, scorer.params.maxDets = 0, [10, 100, 1000]
        with contextlib.redirect_stdout(io.StringIO()):
            scorer.evaluate()
            scorer.accumulate()
        for name, value in _numbers(scorer).items():
            scores.numbers[f"{KINDS[kind]}_{name}"] = value
        # [IoU, recall, class, area, max detections], -1 for a class without objects
        precision = np.asarray(scorer.eval["precision"])[:, :, :, 0, -1]
        curves.append(_curves(precision, KINDS[kind], scorer.params.recThrs))
        if not class_agnostic:
            classes = [truth.cats[category]["name"] for category in scorer.params.catIds]
            per_class.append(_class_table(precision, KINDS[kind], classes))
    scores.curves = pd.concat(curves, ignore_index=True)
    if per_class:
        scores.per_class = pd.concat(per_class, ignore_index=True)
    return scores


def _renumbered(
    truth: COCO, results: list[dict[str, Any]], image_ids: Sequence[int]
) -> tuple[COCO, list[dict[str, Any]], list[int]]:
    """Numbers images and categories from 1, in the order of their ids.

    faster-coco-eval keeps ids as float64 and as unsigned numbers: it fails with negative ids, and
    mixes up those beyond 2^53.
    """
    images, categories = (
        {entry_id: number for number, entry_id in enumerate(sorted(ids), start=1)}
        for ids in (truth.imgs, truth.cats)
    )

    def renumber(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        numbers = (
            {"image_id": images[a["image_id"]], "category_id": categories[a["category_id"]]}
            for a in entries
        )
        return [{**entry, **ids} for entry, ids in zip(entries, numbers, strict=True)]

    renumbered = COCO()
    renumbered.dataset = {
        **truth.dataset,
        "images": [{**image, "id": images[image["id"]]} for image in truth.dataset["images"]],
        "categories": [{**c, "id": categories[c["id"]]} for c in truth.dataset["categories"]],
        "annotations": renumber(truth.dataset["annotations"]),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        renumbered.createIndex()
    return renumbered, renumber(results), [images[image_id] for image_id in image_ids]


def _numbers(scorer: COCOeval) -> dict[str, float]:
    """Returns COCO's twelve numbers.

    `COCOeval.summarize` has them only for a limit of 100 detections.
    """
    # [IoU, recall, class, area, max detections] and [IoU, class, area, max detections]
    precision, recall = (np.asarray(scorer.eval[name]) for name in ("precision", "recall"))

    def mean(values: np.ndarray) -> float:
        values = values[values > -1]
        return float(values.mean()) if values.size else np.nan

    of_iou = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
    numbers = {name: mean(precision[ious, :, :, 0, -1]) for name, ious in of_iou.items()}
    numbers |= {f"AP{s}": mean(precision[:, :, :, i, -1]) for i, s in enumerate("sml", start=1)}
    for index, count in enumerate(scorer.params.maxDets):
        numbers[f"AR{count}"] = mean(recall[:, :, 0, index])
    return numbers | {f"AR{s}": mean(recall[:, :, i, -1]) for i, s in enumerate("sml", start=1)}


def results_of_kind(results: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Returns results with only the boxes (`bbox`) or only the masks (`segm`).

    `COCO.loadRes` takes the area of a result from its box where it has one, and sorts it into
    small, medium and large by that area: results that carry both would size masks by their boxes.
    """
    field = {"bbox": "segmentation", "segm": "bbox"}[kind]
    return [{key: value for key, value in result.items() if key != field} for result in results]


def _scorer(truth: COCO, results: list[dict[str, Any]], kind: str, evaluator: str) -> COCOeval:
    make, own, annotated = COCOeval, COCO, truth
    if evaluator == "fast":
        import faster_coco_eval

        make, own = faster_coco_eval.COCOeval_faster, faster_coco_eval.COCO
        annotated = own(truth.dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        if results:
            found = annotated.loadRes(results_of_kind(results, kind))
        else:  # loadRes rejects an empty list, but a model without detections still has a score
            found = own()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        return make(annotated, found, kind)


def _class_table(precision: np.ndarray, kind: str, classes: Sequence[str]) -> pd.DataFrame:
    rows = []
    for index, name in enumerate(classes):
        found = precision[:, :, index]
        there = found.size > 0 and found.max() >= 0
        ap, ap50 = (found.mean(), found[0].mean()) if there else (np.nan, np.nan)
        rows.append({"class": name, "kind": kind, "AP": ap, "AP50": ap50})
    return pd.DataFrame(rows, columns=["class", "kind", "AP", "AP50"])


def _curves(precision: np.ndarray, kind: str, recalls: np.ndarray) -> pd.DataFrame:
    tables = []
    for index, iou in CURVE_IOUS.items():
        of_classes = precision[index][:, precision[index].max(axis=0, initial=-1) >= 0]
        if of_classes.size:
            columns = {"recall": recalls, "precision": of_classes.mean(axis=1)}
            tables.append(pd.DataFrame({"kind": kind, "iou": iou, **columns}))
    empty = pd.DataFrame(columns=["kind", "iou", "recall", "precision"])
    return pd.concat(tables, ignore_index=True) if tables else empty
