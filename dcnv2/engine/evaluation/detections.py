# SPDX-License-Identifier: BSD-3-Clause
"""Runs a detector and converts its output: to tensors on the CPU, and to COCO's result format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor, nn

MASK_THRESHOLD = 0.5


@torch.no_grad()
def predict(
    model: nn.Module, images: Sequence[Tensor], device: torch.device
) -> list[dict[str, Any]]:
    """Detects objects in uint8 images [3, H, W]; results are on the CPU, best first.

    Returns:
        One dict per image: `boxes` [K, 4], `labels` [K], `scores` [K] and, from a model with masks,
        `masks` bool [K, H, W].
    """
    training = model.training
    model.eval()
    outputs = model([image.to(device).float() / 255 for image in images])
    model.train(training)
    results = []
    for output in outputs:
        result = {key: value.cpu() for key, value in output.items()}
        if "masks" in result:
            result["masks"] = result["masks"][:, 0] > MASK_THRESHOLD
        results.append(result)
    return results


@torch.no_grad()
def detect(
    model: nn.Module,
    batches: Iterable[Any],
    category_ids: Sequence[int],
    device: torch.device,
    between: Callable[[], None] | None = None,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Runs the model over batches of `(images, targets)`.

    Args:
        model: a detector; it runs in evaluation mode and returns to its previous mode.
        batches: tuples of images (float [3, H, W] in [0, 1]) and targets with `image_id`.
        category_ids: COCO category of label 1, 2, ...
        device: device of the model.
        between: called after each batch; may raise to stop early.

    Returns:
        Results in COCO's format, and the ids of all images, with or without detections.
    """
    training = model.training
    model.eval()
    results, image_ids = [], []
    try:
        for images, targets in batches:
            outputs = model([image.to(device) for image in images])
            for target, output in zip(targets, outputs, strict=True):
                image_id = int(target["image_id"])
                image_ids.append(image_id)
                results += coco_results(image_id, output, category_ids)
            if between is not None:
                between()
    finally:
        model.train(training)
    return results, image_ids


def coco_results(
    image_id: int, output: Mapping[str, Tensor], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns the detections of one image in COCO's result format, masks run-length encoded."""
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
        masks = output["masks"]
        if masks.ndim == 4:  # [K, 1, H, W] in [0, 1], from a model
            masks = masks[:, 0] > MASK_THRESHOLD
        masks = masks.to(torch.uint8).permute(1, 2, 0).cpu()
        for result, code in zip(results, rle.encode(np.asfortranarray(masks)), strict=True):
            result["segmentation"] = {**code, "counts": code["counts"].decode("ascii")}
    return results
