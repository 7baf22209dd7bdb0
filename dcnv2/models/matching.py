# SPDX-License-Identifier: BSD-3-Clause
"""Matching anchors to objects in bounded memory, and regions to ignore."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_area, box_iou

# Share of a box inside a crowd region from which on it is no background (Detectron's).
IGNORED_SHARE = 0.7


def inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Whether most of a box lies in one of the regions.

    Args:
        boxes: [R, 4].
        regions: [K, 4], such as crowd regions.

    Returns:
        bool [R].
    """
    if len(regions) == 0:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    low = torch.maximum(boxes[:, None, :2], regions[:, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[:, 2:])
    common = (high - low).clamp(min=0).prod(dim=2)
    return (common >= IGNORED_SHARE * box_area(boxes)[:, None]).any(dim=1)


class BoxPairs(NamedTuple):
    """Objects [G, 4] and anchors [A, 4] whose IoU is yet to be taken."""

    objects: Tensor
    anchors: Tensor


class ChunkedMatcher(Matcher):
    """torchvision's `Matcher` on `BoxPairs`: the same matches without the matrix [G, A] in memory.

    A thousand objects on the 100,000 anchors of a 1000 px image would take 0.4 GB for the matrix
    and several times that on the way to it.
    """

    chunk_entries = 2**22

    def __call__(self, pairs: BoxPairs) -> Tensor:
        """Index of the object of each anchor [A], or BELOW_LOW_THRESHOLD or BETWEEN_THRESHOLDS."""
        objects, anchors = pairs
        chunk = max(self.chunk_entries // max(len(objects), 1), 1)
        parts = anchors.split(chunk)
        best, index = [], []
        best_of_object = objects.new_full((len(objects),), -1.0)
        for part in parts:
            iou = box_iou(objects, part)
            values, which = iou.max(dim=0)
            best.append(values)
            index.append(which)
            best_of_object = torch.maximum(best_of_object, iou.max(dim=1).values)
        quality, match = torch.cat(best), torch.cat(index)
        result = match.clone()
        result[quality < self.low_threshold] = self.BELOW_LOW_THRESHOLD
        between = (quality >= self.low_threshold) & (quality < self.high_threshold)
        result[between] = self.BETWEEN_THRESHOLDS
        if self.allow_low_quality_matches:
            keep = torch.cat(
                [(box_iou(objects, part) == best_of_object[:, None]).any(dim=0) for part in parts]
            )
            result[keep] = match[keep]
        return result
