# SPDX-License-Identifier: BSD-3-Clause
"""Runs a detector and converts its output: to tensors on the CPU, and to COCO's result format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import (
    expand_boxes,
    expand_masks,
    paste_mask_in_image,
)

from dcnv2.data.run_lengths import encode
from dcnv2.engine.config import EvalConfig
from dcnv2.engine.evaluation.views import detect_in_views, has_views
from dcnv2.models.detector import Detector
from dcnv2.models.pasting import paste_all, paste_exactly
from dcnv2.models.transfer import to_device
from dcnv2.structures import RunLengthMasks

MASK_THRESHOLD = 0.5
# Pixels of pasted masks that are in memory at a time (256 MiB).
PLANE_PIXELS = 2**26
Paste = Callable[[Tensor, Tensor, tuple[int, int]], RunLengthMasks]


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Sequence[Tensor],
    device: torch.device,
    options: EvalConfig | None = None,
) -> list[dict[str, Any]]:
    """Detects objects in uint8 images [3, H, W]; results are on the CPU, best first.

    Args:
        model: a detector; it runs in evaluation mode and returns to its previous mode.
        images: of any sizes.
        device: device of the model.
        options: views of the images; only our detectors have more than one.

    Returns:
        One dict per image: `boxes` [K, 4], `labels` [K], `scores` [K] and, from a model with masks,
        `masks`, `RunLengthMasks` [K, H, W].
    """
    training = model.training
    model.eval()
    results = _run(model, [to_device(image, device) for image in images], options)
    model.train(training)
    return results


def _run(
    model: nn.Module, images: list[Tensor], options: EvalConfig | None
) -> list[dict[str, Any]]:
    """Runs a detector, ours or torchvision's, in evaluation mode; results as of `predict`."""
    if not isinstance(model, Detector):
        # torchvision's detectors take no bytes.
        outputs = model([x if x.is_floating_point() else x.float() / 255 for x in images])
    elif options is not None and has_views(options):
        outputs = detect_in_views(model, images, options)
    else:
        outputs = model(images, paste_masks=False)
    results = []
    for image, output in zip(images, outputs, strict=True):
        result: dict[str, Any] = {k: v.cpu() for k, v in output.items() if k != "masks"}
        if "masks" in output:
            paste: Paste = _threshold
            if isinstance(model, Detector):
                exact = model.transform.exact
                paste = paste_masks_exactly if exact else paste_masks
                if image.device.type != "cpu":
                    paste = partial(paste_on_device, exact=exact)
            size = image.shape[-2], image.shape[-1]
            result["masks"] = paste(output["masks"], output["boxes"], size)
        results.append(result)
    return results


def paste_on_device(
    probabilities: Tensor, boxes: Tensor, size: tuple[int, int], exact: bool
) -> RunLengthMasks:
    """Pastes masks where they are, some planes at a time; the result is on the CPU.

    Args:
        probabilities: [K, 1, M, M] in [0, 1], each over its box.
        boxes: [K, 4] (x1, y1, x2, y2) in pixels.
        size: Height and width of the image.
        exact: see `paste_masks_exactly`, otherwise `paste_masks`.
    """
    parts = []
    chunk = max(PLANE_PIXELS // (size[0] * size[1]), 1)
    for mask, box in zip(probabilities.split(chunk), boxes.split(chunk), strict=True):
        planes = paste_all(mask, box, size, exact)[:, 0]
        parts.append(RunLengthMasks.from_dense(_above(planes, exact)).to("cpu"))
    return RunLengthMasks.concatenate(parts, size)


def _above(planes: Tensor, exact: bool) -> Tensor:
    return planes >= MASK_THRESHOLD if exact else planes > MASK_THRESHOLD


def paste_masks(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> RunLengthMasks:
    """Pastes predicted masks into their boxes, as torchvision does, one window at a time.

    Args:
        probabilities: [K, 1, M, M] in [0, 1], each over its box.
        boxes: [K, 4] (x1, y1, x2, y2) in pixels.
        size: Height and width of the image.

    Returns:
        The pixels where the probability is above MASK_THRESHOLD.
    """
    height, width = size
    padded, scale = expand_masks(probabilities, padding=1)
    corners = expand_boxes(boxes, scale).to(torch.int64)
    parts = []
    for (mask,), (x1, y1, x2, y2) in zip(padded, corners.tolist(), strict=True):
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2 + 1, width), min(y2 + 1, height)
        window = mask.new_zeros(0, 0)
        if left < right and top < bottom:
            shifted = x1 - left, y1 - top, x2 - left, y2 - top
            window = paste_mask_in_image(mask, shifted, bottom - top, right - left)
        parts.append(_runs_at(window > MASK_THRESHOLD, left, top))
    return RunLengthMasks.concatenate(parts, size)


def paste_masks_exactly(
    probabilities: Tensor, boxes: Tensor, size: tuple[int, int]
) -> RunLengthMasks:
    """Pastes predicted masks into their boxes, as detectron2 and mmdetection do; see `paste_masks`.

    Returns:
        The pixels where the probability is at least MASK_THRESHOLD.
    """
    height, width = size
    low, high = boxes[:, :2].floor().clamp(min=0).long(), boxes[:, 2:].ceil().long()
    high = torch.minimum(high, torch.tensor([width, height]))
    parts = []
    for (mask,), box, (left, top), (right, bottom) in zip(
        probabilities, boxes, low.tolist(), high.tolist(), strict=True
    ):
        window = mask.new_zeros(0, 0)
        if left < right and top < bottom:
            window = paste_exactly(mask, box, (left, top, right, bottom))
        parts.append(_runs_at(window >= MASK_THRESHOLD, left, top))
    return RunLengthMasks.concatenate(parts, size)


def _runs_at(window: Tensor, left: int, top: int) -> RunLengthMasks:
    """Returns the runs of a part [h, w] of a picture in the picture's rows and columns."""
    part = RunLengthMasks.from_dense(window[None])
    part.runs += torch.tensor([left, top, top], dtype=part.runs.dtype)
    return part


def _threshold(masks: Tensor, _boxes: Tensor, size: tuple[int, int]) -> RunLengthMasks:
    """Returns the runs of masks [K, 1, H, W] in [0, 1]."""
    parts = [RunLengthMasks.from_dense(mask > MASK_THRESHOLD) for mask in masks]
    return RunLengthMasks.concatenate(parts, size)


@torch.no_grad()
def detect(
    model: nn.Module,
    batches: Iterable[Any],
    category_ids: Sequence[int],
    device: torch.device,
    between: Callable[[], None] | None = None,
    options: EvalConfig | None = None,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Runs the model over batches of `(images, targets)`.

    Args:
        model: a detector; it runs in evaluation mode and returns to its previous mode.
        batches: tuples of images ([3, H, W], bytes or floats) and targets with `image_id`.
        category_ids: COCO category of label 1, 2, ...
        device: device of the model.
        between: called after each batch; may raise to stop early.
        options: views of the images, as of `predict`.

    Returns:
        Results in COCO's format, and the ids of all images, with or without detections.
    """
    training = model.training
    model.eval()
    if isinstance(model, Detector):
        model.record_detections()
    results, image_ids = [], []
    try:
        for images, targets in batches:
            outputs = _run(model, [to_device(image, device) for image in images], options)
            for target, output in zip(targets, outputs, strict=True):
                image_id = int(target["image_id"])
                image_ids.append(image_id)
                results += coco_results(image_id, output, category_ids)
            if between is not None:
                between()
    finally:
        model.train(training)
        if isinstance(model, Detector):
            model.record_detections(False)
    return results, image_ids


def coco_results(
    image_id: int, output: Mapping[str, Any], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns the detections of one image, as of `predict`, in COCO's result format."""
    boxes = output["boxes"].float()
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
        for result, code in zip(results, encode(output["masks"]), strict=True):
            result["segmentation"] = {**code, "counts": code["counts"].decode("ascii")}
    return results
