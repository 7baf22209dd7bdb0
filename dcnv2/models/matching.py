# SPDX-License-Identifier: BSD-3-Clause
"""Matching anchors and proposals of a batch to objects in bounded memory; regions to ignore."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dcnv2.models.boxes import area, intersection, iou

# Share of a box inside a crowd region from which on it is no background (Detectron's).
IGNORED_SHARE = 0.7
# Entries of the matrix of IoUs that are in memory at a time (64 MiB).
CHUNK_ENTRIES = 2**24
BACKGROUND, BETWEEN, MATCHED = 0, -1, 1


@dataclass(frozen=True)
class Matches:
    """Objects of boxes.

    Attributes:
        index: int64 [N, R], the object of largest IoU.
        state: int8 [N, R], MATCHED, BACKGROUND, or BETWEEN the thresholds.
    """

    index: Tensor
    state: Tensor


def match(
    objects: Tensor,
    present: Tensor,
    boxes: Tensor,
    high: float,
    low: float,
    low_quality: bool = False,
) -> Matches:
    """Matches boxes to objects by IoU, as torchvision's `Matcher` does.

    A thousand objects on the 100,000 anchors of a 1000 px image would take 0.4 GB for the matrix
    of IoUs, so it is made for some boxes at a time.

    Args:
        objects: [N, G, 4], padded.
        present: bool [N, G], which are objects.
        boxes: [N, R, 4], or [1, R, 4] for the same in all images.
        high: least IoU of a match.
        low: least IoU of a box that is no background.
        low_quality: match the boxes of largest IoU of each object too, however small it is.
    """
    chunk = max(CHUNK_ENTRIES // max(objects.shape[0] * objects.shape[1], 1), 1)
    parts = boxes.split(chunk, dim=1)
    best, index = [], []
    overlap = objects  # of the last part, which is the only one unless there are many
    best_of_object = objects.new_zeros(objects.shape[:2])
    for part in parts:
        overlap = iou(objects, part).masked_fill_(~present[..., None], -1.0)
        values, which = overlap.max(dim=1)
        best.append(values)
        index.append(which)
        best_of_object = torch.maximum(best_of_object, overlap.amax(dim=2))
    quality, found = torch.cat(best, dim=1), torch.cat(index, dim=1)
    state = (quality >= high).to(torch.int8) - ((quality >= low) & (quality < high)).to(torch.int8)
    if low_quality:
        wanted = best_of_object[..., None]
        if len(parts) == 1:
            kept = (overlap == wanted).any(dim=1)
        else:
            kept = torch.cat([_reaches(objects, present, part, wanted) for part in parts], dim=1)
        state = state.masked_fill(kept, MATCHED)
    return Matches(found, state)


def _reaches(objects: Tensor, present: Tensor, boxes: Tensor, wanted: Tensor) -> Tensor:
    return ((iou(objects, boxes) == wanted) & present[..., None]).any(dim=1)


def inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Whether most of a box lies in one of the regions, bool [N, R].

    Args:
        boxes: [N, R, 4], or [1, R, 4] for the same in all images.
        regions: [N, K, 4], such as crowd regions; those without area are padding.
    """
    common = intersection(regions, boxes)
    enough = common >= IGNORED_SHARE * area(boxes)[:, None]
    return (enough & (area(regions) > 0)[..., None]).any(dim=1)
