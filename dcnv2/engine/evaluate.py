# SPDX-License-Identifier: BSD-3-Clause
"""COCO evaluation by pycocotools: detections of a model to a row of a pandas table."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from dcnv2.data.dataset import DetectionDataset
from dcnv2.engine.checkpoint import restore
from dcnv2.engine.config import RunConfig
from dcnv2.engine.datasets import open_val, val_batches
from dcnv2.engine.device import pick_device

MASK_THRESHOLD = 0.5
AP_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
AR_NAMES = ("ARs", "ARm", "ARl")
KINDS = {"bbox": "box", "segm": "mask"}


@torch.no_grad()
def detect(
    model: nn.Module, batches: Iterable, category_ids: Sequence[int], device: torch.device
) -> tuple[list[dict], list[int]]:
    """Runs the model over batches of `(images, targets)`.

    Args:
        model: a detector; it is put into evaluation mode and back into the mode it had.
        batches: tuples of images (float [3, H, W] in [0, 1]) and targets with `image_id`.
        category_ids: COCO category of label 1, 2, ...
        device: where the model is.

    Returns:
        Results in COCO's JSON form, and the ids of all images seen, detections or not.
    """
    training = model.training
    model.eval()
    results, image_ids = [], []
    for images, targets in batches:
        outputs = model([image.to(device) for image in images])
        for target, output in zip(targets, outputs, strict=True):
            image_id = int(target["image_id"])
            image_ids.append(image_id)
            results += _coco_results(image_id, output, category_ids)
    model.train(training)
    return results, image_ids


def _coco_results(image_id: int, output: dict[str, Tensor], category_ids: Sequence[int]):
    boxes = output["boxes"].float().cpu()
    sizes = boxes[:, 2:] - boxes[:, :2]
    scores, labels = output["scores"].tolist(), output["labels"].tolist()
    results = [
        {
            "image_id": image_id,
            "category_id": int(category_ids[label - 1]),
            "bbox": [*box, *size],
            "score": score,
        }
        for box, size, score, label in zip(
            boxes[:, :2].tolist(), sizes.tolist(), scores, labels, strict=True
        )
    ]
    if "masks" in output:
        masks = (output["masks"][:, 0] > MASK_THRESHOLD).to(torch.uint8).permute(1, 2, 0)
        for result, code in zip(results, rle.encode(np.asfortranarray(masks.cpu())), strict=True):
            result["segmentation"] = code
    return results


def coco_evaluate(
    truth: COCO,
    results: list[dict],
    image_ids: Sequence[int],
    kinds: Sequence[str] = ("bbox", "segm"),
    class_agnostic: bool = False,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Scores results against the annotations of `image_ids`, images without objects included.

    Args:
        truth: annotations.
        results: in COCO's JSON form; may be empty.
        image_ids: the images that were looked at; a false positive on any of them counts.
        kinds: `bbox`, `segm` or both.
        class_agnostic: score proposals: classes do not count, and recall is also taken of 1000
            boxes an image, instead of 1.

    Returns:
        COCO's twelve numbers a kind (`box_AP`, ..., `mask_ARl`; NaN where there is nothing to
        find), and AP, AP50 a class and kind.
    """
    stats, per_class = {}, []
    detected = _as_coco(truth, results)
    for kind in kinds:
        with contextlib.redirect_stdout(io.StringIO()):
            scorer = COCOeval(truth, detected, kind)
            scorer.params.imgIds = sorted(image_ids)
            if class_agnostic:
                scorer.params.useCats, scorer.params.maxDets = 0, [10, 100, 1000]
            scorer.evaluate()
            scorer.accumulate()
            scorer.summarize()
        counts = scorer.params.maxDets
        names = (*AP_NAMES, *(f"AR{count}" for count in counts), *AR_NAMES)
        for name, value in zip(names, scorer.stats, strict=True):
            stats[f"{KINDS[kind]}_{name}"] = float(value) if value >= 0 else float("nan")
        if class_agnostic:
            continue
        # precision: [IoU, recall, class, area, max detections], -1 where there is no object
        precision = scorer.eval["precision"][:, :, :, 0, -1]
        for index, category in enumerate(scorer.params.catIds):
            found = precision[:, :, index]
            there = found.size > 0 and found.max() >= 0
            per_class.append(
                {
                    "class": truth.cats[category]["name"],
                    "kind": KINDS[kind],
                    "AP": found.mean() if there else np.nan,
                    "AP50": found[0].mean() if there else np.nan,
                }
            )
    return stats, pd.DataFrame(per_class, columns=["class", "kind", "AP", "AP50"])


def _as_coco(truth: COCO, results: list[dict]) -> COCO:
    """`COCO.loadRes` refuses an empty list; a model that finds nothing still has a score."""
    with contextlib.redirect_stdout(io.StringIO()):
        if results:
            return truth.loadRes([dict(result) for result in results])
        empty = COCO()
        empty.dataset = {
            "images": truth.dataset["images"],
            "categories": truth.dataset["categories"],
            "annotations": [],
        }
        empty.createIndex()
        return empty


def check_categories(
    names: Sequence[str], num_classes: int, expected: Sequence[str] | None = None
) -> None:
    """Compares the categories of a data set with those a model was made or trained for.

    Args:
        names: categories of the data set in label order.
        num_classes: classes that the model tells apart.
        expected: categories that the checkpoint was trained with, if any.

    Raises:
        ValueError: they differ.
    """
    if len(names) != num_classes:
        raise ValueError(
            f"model.num_classes is {num_classes}, but the data set has {len(names)} categories: "
            f"{', '.join(names)}"
        )
    if expected is not None and list(names) != list(expected):
        pairs = enumerate(zip(names, expected, strict=True), start=1)
        label, (here, there) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise ValueError(f"class {label} is {here} in this data set, but {there} in training")


def evaluate(
    model: nn.Module, dataset: DetectionDataset, config: RunConfig, device: torch.device
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluates a detector on a data set.

    Args:
        model: on `device`.
        dataset: served without crowd regions; pycocotools gets them from its `coco()`.
        config: the run, for the kinds of results, the batch size and the workers.
        device: where to run.

    Returns:
        One row of COCO's numbers with `images` and `image_ms` (the model's time an image), and AP,
        AP50 a class and kind.
    """
    began = time.perf_counter()
    batches = val_batches(dataset, config)
    results, image_ids = detect(model, batches, dataset.category_ids, device)
    image_ms = 1e3 * (time.perf_counter() - began) / max(len(image_ids), 1)
    proposals = config.model.task == "proposals"
    masks = config.model.mask.enabled and not proposals
    stats, per_class = coco_evaluate(
        dataset.coco(), results, image_ids, ("bbox", "segm") if masks else ("bbox",), proposals
    )
    row = pd.DataFrame([{"images": len(image_ids), "image_ms": image_ms, **stats}])
    return row, per_class


def evaluate_checkpoint(
    config: RunConfig, checkpoint: Path | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluates a checkpoint (by default the run's newest) on the validation split."""
    device = pick_device(config.device)
    model, meta = restore(config, checkpoint, device)
    dataset = open_val(config.data, config.model.mask.enabled)
    check_categories(dataset.names, config.model.num_classes, meta["classes"])
    row, per_class = evaluate(model, dataset, config, device)
    row.insert(0, "step", meta["step"])
    return row, per_class
