# SPDX-License-Identifier: BSD-3-Clause
"""Evaluates a detector on a data set, on all ranks: tables, and results in COCO's format."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import pandas as pd

from dcnv2.data.dataset import DetectionDataset
from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.coco_eval import Scores, coco_scores
from dcnv2.engine.evaluation.detections import detect
from dcnv2.engine.evaluation.errors import Errors, find_errors
from dcnv2.engine.evaluation.validation_loss import validation_loss
from dcnv2.engine.evaluation.voc_eval import voc_scores
from dcnv2.engine.runtime.class_weights import set_class_weights
from dcnv2.engine.runtime.datasets import open_val_sets, val_batches
from dcnv2.engine.runtime.distributed import Communicator, init_distributed
from dcnv2.engine.runtime.foreign import restore_any
from dcnv2.models import ModelConfig
from dcnv2.models.detector import Detector

log = logging.getLogger("dcnv2")

# The metric that ranks checkpoints: the first of these that a result has.
METRICS = ("mask_AP", "box_AP", "box_mAP50")


class UnexpectedResultError(ValueError):
    """A result differs from the expected one by more than its tolerance."""


@dataclass
class Result:
    """The result of an evaluation.

    Attributes:
        row: one row of numbers, including `images` and `image_ms` (time per image), with
            `eval.loss` the loss and its terms, and the numbers of the other validation sets after
            their names, as in `night/box_AP`.
        scores: the same numbers, and tables.
        detections: in COCO's result format, boxes and masks together.
        has_masks: whether masks were scored, and are in `detections`.
        dataset: what was evaluated; None if it is not kept.
        errors: at `eval.draw_threshold`; None for proposals.
        others: the results of the other validation sets, by name.
    """

    row: pd.DataFrame
    scores: Scores
    detections: list[dict[str, Any]]
    has_masks: bool = False
    dataset: DetectionDataset | None = None
    errors: Errors | None = None
    others: dict[str, Result] = field(default_factory=dict)


def check_categories(
    names: Sequence[str], num_classes: int, expected: Sequence[str] | None = None
) -> None:
    """Compares the categories of a data set with those of the model.

    Args:
        names: categories of the data set in label order.
        num_classes: number of classes of the model.
        expected: categories that the checkpoint was trained with, if any.

    Raises:
        ValueError: they differ.
    """
    if len(names) != num_classes:
        raise ValueError(
            f"model.num_classes is {num_classes}, but the data set has {len(names)} categories: "
            f"{shorten(', '.join(names), 200)}; to train on it: --model.num_classes={len(names)}"
        )
    if expected is not None and list(names) != list(expected):
        if len(names) != len(expected):
            raise ValueError(
                f"the data set has {len(names)} categories, the checkpoint was trained with "
                f"{len(expected)}: {shorten(', '.join(expected), 200)}"
            )
        pairs = enumerate(zip(names, expected, strict=True), start=1)
        label, (here, there) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise ValueError(f"class {label} is {here} in this data set, but {there} in training")


def has_masks(config: ModelConfig) -> bool:
    """Whether a detector learns masks, so that its data must have them."""
    return config.mask.enabled and config.task == "detection"


def best_metric(row: pd.DataFrame) -> str:
    """Returns the column that ranks results: AP, or recall of proposals."""
    proposals = "box_AR1000" in row
    return "box_AR1000" if proposals else next(name for name in METRICS if name in row)


def evaluate(
    model: Detector,
    dataset: DetectionDataset,
    config: RunConfig,
    comm: Communicator,
    between: Callable[[], None] | None = None,
) -> Result | None:
    """Evaluates a detector on a data set; each rank takes its share of the images.

    Args:
        model: on this rank's device. Without RoI heads, its proposals are scored.
        dataset: without crowd regions in its items; the evaluation takes them from `coco()`.
        config: the run, for the metric, the batch size and the workers.
        comm: the processes that evaluate together.
        between: called after each batch; may raise to stop early.

    Returns:
        The result on the first rank, None on the others.
    """
    began = time.perf_counter()
    batches = val_batches(dataset, config, comm)
    found = comm.gather(
        detect(model, batches, dataset.category_ids, comm.device, between, config.eval)
    )
    image_ms = 1e3 * (time.perf_counter() - began) / max(len(dataset), 1)
    proposals = model.roi_heads is None
    loss = {}
    if config.eval.loss and proposals == (config.model.task == "proposals"):
        loss = validation_loss(model, dataset, config, comm, between)
    if found is None:
        return None
    detections = [result for results, _ in found for result in results]
    image_ids = [image_id for _, ids in found for image_id in ids]
    wrong = Counter(image_ids)
    wrong.subtract(dataset.image_ids.tolist())
    if any(wrong.values()):
        missing = [image_id for image_id, count in wrong.items() if count < 0]
        repeated = [image_id for image_id, count in wrong.items() if count > 0]
        raise RuntimeError(
            f"not every image was evaluated once: {len(missing)} are missing, such as "
            f"{missing[:5]}; {len(repeated)} were repeated, such as {repeated[:5]}"
        )
    masks = dataset.masks and not proposals and model.roi_heads.has_mask()
    truth = dataset.coco()
    if config.eval.metric != "coco" and not proposals:
        eleven = config.eval.metric == "voc07"
        scores = voc_scores(truth, detections, image_ids, eleven)
    else:
        kinds = ("bbox", "segm") if masks else ("bbox",)
        scores = coco_scores(
            *(truth, detections, image_ids, kinds, proposals, config.eval.evaluator),
            max_detections=counted_detections(config),
        )
    row = pd.DataFrame([{"images": len(image_ids), "image_ms": image_ms, **loss, **scores.numbers}])
    errors = None
    if not proposals:
        errors = find_errors(truth, detections, image_ids, config.eval.draw_threshold)
    return Result(row, scores, detections, masks, dataset, errors)


def evaluate_sets(
    model: Detector,
    datasets: Mapping[str, DetectionDataset],
    config: RunConfig,
    comm: Communicator,
    between: Callable[[], None] | None = None,
) -> Result | None:
    """Evaluates a detector on several data sets; see `evaluate`.

    Args:
        model: as of `evaluate`, like all that follows.
        datasets: by name; the first is the one that ranks checkpoints.
        config: the run.
        comm: the processes.
        between: called after each batch.

    Returns:
        The result of the first set, with those of the others; None on other ranks than the first.
    """
    results = [evaluate(model, dataset, config, comm, between) for dataset in datasets.values()]
    first, *others = results
    if first is None:
        return None
    for name, other in zip(list(datasets)[1:], others, strict=True):
        assert other is not None
        first.others[name] = other
        first.row = pd.concat([first.row, other.row.add_prefix(f"{name}/")], axis=1)
    return first


def evaluate_checkpoint(
    config: RunConfig, checkpoint: str | Path | None = None, proposals: bool = False
) -> Result | None:
    """Evaluates a checkpoint on the validation splits, together with the other ranks, if any.

    Args:
        config: the run.
        checkpoint: `best`, `last` (the default) or a folder.
        proposals: score the RPN's proposals by recall instead of the detections.

    Returns:
        The result on the first rank, None on the others.
    """
    with init_distributed(config.device, config.train.timeout_minutes) as comm:
        model, meta = restore_any(config, checkpoint, comm.device)
        datasets = open_val_sets(config.data, has_masks(config.model))
        for dataset in datasets.values():
            check_categories(dataset.names, config.model.num_classes, meta["classes"])
        if proposals:
            model.roi_heads = None
        elif config.eval.loss:
            set_class_weights(model, meta["classes"], config.train.class_weights)
        if comm.is_main and not proposals:
            for dataset in datasets.values():
                warn_of_limits(dataset, config)
        result = evaluate_sets(model, datasets, config, comm)
        if result is not None:
            result.row.insert(0, "step", meta["step"])
        return result


def counted_detections(config: RunConfig) -> int:
    """Returns the number of detections of a class and image that COCO's metrics count."""
    return config.eval.max_detections or config.model.box.detections_per_image


def warn_of_limits(dataset: DetectionDataset, config: RunConfig) -> None:
    """Warns if images have more objects than are detected or counted: AP cannot reach 1 then."""
    objects = [a for a in dataset.coco().dataset["annotations"] if not a.get("iscrowd")]
    in_image = Counter(a["image_id"] for a in objects)
    of_class = Counter((a["image_id"], a["category_id"]) for a in objects)
    limits = [(in_image, "model.box.detections_per_image", config.model.box.detections_per_image)]
    if config.eval.metric == "coco":
        limits.append((of_class, "eval.max_detections", counted_detections(config)))
    for counts, option, limit in limits:
        images = {key if isinstance(key, int) else key[0] for key, n in counts.items() if n > limit}
        if images:
            unit = "objects" if counts is in_image else "objects of a class"
            log.warning(
                "%d of %d images have more than %d %s (at most %d): the rest counts as not found; "
                "raise %s",
                *(len(images), len(dataset), limit, unit, max(counts.values()), option),
            )


def check_expected(row: pd.DataFrame, expected: Mapping[str, Sequence[float]]) -> None:
    """Compares a result with what the configuration expects.

    Args:
        row: one row of numbers.
        expected: value and tolerance by column.

    Raises:
        UnexpectedResultError: names each number that is missing or outside its tolerance.
    """
    faults = []
    for name, (value, band) in expected.items():
        got = float(row[name].item()) if name in row else float("nan")
        if not abs(got - value) <= band:
            faults.append(f"{name} is {got:.4g}, expected {value:g} within {band:g}")
    if faults:
        raise UnexpectedResultError("; ".join(faults) + " (eval.expected)")
    for name, (value, band) in expected.items():
        log.info("%s is %.4g, as expected: %g within %g", name, row[name].item(), value, band)
