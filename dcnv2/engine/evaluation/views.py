# SPDX-License-Identifier: BSD-3-Clause
"""Detects in several views of an image (tiles, flips, scales) and merges what is found in them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_area

from dcnv2.engine.config import EvalConfig
from dcnv2.models.detector import Detector

# A box this near to a border of its tile, as a share of the tile's side, may be cut by it.
NEAR_BORDER = 0.01
# Share of a cut box inside a larger box of the same class that makes it a part of that object.
PART = 0.7


@dataclass(frozen=True)
class View:
    """A window of an image, (x1, y1, x2, y2) in pixels, mirrored or not."""

    window: tuple[int, int, int, int]
    flip: bool = False

    def of(self, image: Tensor) -> Tensor:
        """Returns the view of an image [3, H, W]."""
        x1, y1, x2, y2 = self.window
        part = image[:, y1:y2, x1:x2]
        return part.flip(-1) if self.flip else part

    def in_image(self, found: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Returns detections in pixels of the image of (height, width), and which are `cut`."""
        x1, y1, x2, y2 = self.window
        boxes = found["boxes"]
        if self.flip:
            boxes = torch.stack(
                [x2 - x1 - boxes[:, 2], boxes[:, 1], x2 - x1 - boxes[:, 0], boxes[:, 3]], dim=1
            )
            if "masks" in found:
                found = {**found, "masks": found["masks"].flip(-1)}
        boxes = boxes + boxes.new_tensor([x1, y1, x1, y1])
        near = NEAR_BORDER * max(x2 - x1, y2 - y1)
        cut = torch.zeros_like(boxes[:, 0], dtype=torch.bool)
        for side, border, end in ((0, x1, 0), (1, y1, 0), (2, x2, size[1]), (3, y2, size[0])):
            if border != end:
                cut |= (boxes[:, side] - border).abs() <= near
        return {**found, "boxes": boxes, "cut": cut}


def has_views(options: EvalConfig) -> bool:
    """Whether images may have more than one view."""
    return options.tile is not None or options.flip or options.scales != [1.0]


def detect_in_views(
    model: Detector, images: list[Tensor], options: EvalConfig
) -> list[dict[str, Tensor]]:
    """Detects objects in the configured views of each image.

    Args:
        model: in evaluation mode.
        images: [3, H, W], bytes or floats in [0, 1], on the model's device.
        options: tiles, flips, scales, and the number of views in a batch.

    Returns:
        What the detector returns for the images without pasted masks, merged over their views.
    """
    return [_detect(model, image, options) for image in images]


def _detect(model: Detector, image: Tensor, options: EvalConfig) -> dict[str, Tensor]:
    size = (image.shape[-2], image.shape[-1])
    flips = (False, True) if options.flip else (False,)
    views = [
        View(window, flip)
        for window in windows(size, options.tile, options.tile_overlap)
        for flip in flips
    ]
    found: list[dict[str, Tensor]] = []
    for scale in options.scales:
        with _scaled(model, scale):
            for begin in range(0, len(views), options.batch_size):
                batch = views[begin : begin + options.batch_size]
                outputs = model([view.of(image) for view in batch], paste_masks=False)
                found += [
                    view.in_image(out, size) for view, out in zip(batch, outputs, strict=True)
                ]
    counts = [len(part["boxes"]) for part in found]
    merged = {key: torch.cat([part[key] for part in found]) for key in found[0]}
    merged["view"] = torch.arange(len(found), device=image.device).repeat_interleave(
        torch.tensor(counts, device=image.device)
    )
    heads = model.roi_heads
    threshold = model.rpn.config.nms if heads is None else heads.nms_thresh
    limit = model.rpn.limits[1] if heads is None else heads.detections_per_img
    keep = _merge(merged, threshold)[:limit]
    return {key: value[keep] for key, value in merged.items() if key not in ("cut", "view")}


def windows(
    size: tuple[int, int], tile: int | None, overlap: float
) -> list[tuple[int, int, int, int]]:
    """Returns the windows (x1, y1, x2, y2) of an image: the whole image, and its tiles.

    The whole image has the objects that are larger than a tile.

    Args:
        size: height and width of the image.
        tile: side of the tiles in pixels; None, or one that holds the image, for no tiles.
        overlap: least overlap of neighbours, as a share of `tile`.
    """
    height, width = size
    whole = [(0, 0, width, height)]
    if tile is None or max(size) <= tile:
        return whole
    rows, columns = (_starts(length, tile, overlap) for length in size)
    return whole + [
        (x, y, min(x + tile, width), min(y + tile, height)) for y in rows for x in columns
    ]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Returns where tiles along a side begin: evenly spaced, the first and last at its ends."""
    if length <= tile:
        return [0]
    gaps = math.ceil((length - tile) / max(tile * (1 - overlap), 1))
    return [round(index * (length - tile) / gaps) for index in range(gaps + 1)]


@contextlib.contextmanager
def _scaled(model: Detector, scale: float) -> Iterator[None]:
    """Multiplies the sizes that the detector resizes images to."""
    transform = model.transform
    sizes = transform.min_size, transform.max_size
    transform.min_size = tuple(max(round(scale * side), 1) for side in sizes[0])
    transform.max_size = max(round(scale * sizes[1]), 1)
    try:
        yield
    finally:
        transform.min_size, transform.max_size = sizes


def _merge(found: dict[str, Tensor], threshold: float) -> Tensor:
    """Returns the detections that remain, best first: NMS in each class over all views.

    A box that a border of its tile may cut gives way to all others. It is also removed if most of
    it lies in a larger box of another view: that has the whole object.
    """
    boxes, scores, labels, cut = (found[key] for key in ("boxes", "scores", "labels", "cut"))
    keep = batched_nms(boxes.float(), scores - cut.to(scores.dtype), labels, threshold)
    boxes, labels, cut, view = (x[keep] for x in (boxes, labels, cut, found["view"]))
    parts = torch.where(cut)[0]
    low = torch.maximum(boxes[parts, None, :2], boxes[:, :2])
    high = torch.minimum(boxes[parts, None, 2:], boxes[:, 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    area = box_area(boxes)
    whole = (
        (inside >= PART * area[parts, None])
        & (area > area[parts, None])
        & (labels == labels[parts, None])
        & (view != view[parts, None])
    )
    remaining = torch.ones_like(cut)
    remaining[parts] = ~whole.any(dim=1)
    keep = keep[remaining]
    return keep[scores[keep].argsort(descending=True, stable=True)]
