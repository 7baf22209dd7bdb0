# SPDX-License-Identifier: BSD-3-Clause
"""Greedy non-maximum suppression of a batch, box after box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def batched_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, max_out: int
) -> tuple[Tensor, Tensor]:
    """Kept indices [N, max_out], then -1, and their counts [N].

    Args:
        boxes: [N, K, 4] of (x1, y1, x2, y2).
        scores: [N, K]; -inf where there is no box. NaN is the highest score.
        groups: [N, K]; only boxes of one group suppress each other.
        iou_threshold: boxes are suppressed whose overlap with a kept box exceeds it.
        max_out: the most boxes that are kept of an image.
    """
    images = zip(boxes.tolist(), scores.tolist(), groups.tolist(), strict=True)
    rows = [_kept(*image, iou_threshold, max_out) for image in images]
    indices = torch.full((len(rows), max_out), -1, dtype=torch.int64)
    for row, kept in zip(indices, rows, strict=True):
        row[: len(kept)] = torch.tensor(kept, dtype=torch.int64)
    return indices, torch.tensor([len(kept) for kept in rows], dtype=torch.int64)


def _kept(
    boxes: Sequence[Sequence[float]],
    scores: Sequence[float],
    groups: Sequence[float],
    iou_threshold: float,
    max_out: int,
) -> list[int]:
    """The kept boxes of an image, by descending score and ascending index."""
    is_nan = [math.isnan(score) for score in scores]
    order = sorted(range(len(scores)), key=lambda i: (not is_nan[i], is_nan[i] or -scores[i], i))
    kept: list[int] = []
    for box in order:
        if len(kept) == max_out:
            break
        earlier = [i for i in kept if groups[i] == groups[box]]
        overlaps = [overlap(boxes[i], boxes[box]) for i in earlier]
        if scores[box] != -math.inf and not any(o > iou_threshold for o in overlaps):
            kept.append(box)
    return kept


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes; NaN or 0 if they share nothing.

    Infinite boxes have the value of the formula, NaN where it is infinity over infinity.
    """
    if any(math.isnan(side) for side in (*one, *other)):
        return math.nan
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if not (width > 0 and height > 0):
        return 0.0
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)]
    return width * height / (areas[0] + areas[1] - width * height)
