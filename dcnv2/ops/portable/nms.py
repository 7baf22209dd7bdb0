# SPDX-License-Identifier: BSD-3-Clause
"""Batched non-maximum suppression in plain PyTorch, one kept box of every image at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def batched_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, max_out: int
) -> tuple[Tensor, Tensor]:
    """Return the kept indices [N, max_out] and counts [N], without waiting for the device."""
    boxes, scores, groups = boxes.detach(), scores.detach(), groups.detach()
    count = boxes.shape[1]
    kept = groups.new_full((boxes.shape[0], max_out), -1)
    threshold = _round_down(iou_threshold, boxes.dtype)
    order = scores.sort(dim=1, descending=True, stable=True).indices
    x1, y1, x2, y2 = (side.gather(1, order) for side in boxes.unbind(2))
    areas, groups = (x2 - x1) * (y2 - y1), groups.gather(1, order)
    left = scores.gather(1, order) != -torch.inf
    place = torch.arange(count, device=boxes.device).expand_as(order)
    for slot in range(min(max_out, count)):
        first = torch.where(left, place, count).amin(1, keepdim=True)
        best, found = first.clamp(max=count - 1), first < count
        kept[:, slot : slot + 1] = torch.where(found, order.gather(1, best), -1)
        width = torch.minimum(x2.gather(1, best), x2) - torch.maximum(x1.gather(1, best), x1)
        height = torch.minimum(y2.gather(1, best), y2) - torch.maximum(y1.gather(1, best), y1)
        shared = width.clamp(min=0) * height.clamp(min=0)
        overlap = shared / (areas.gather(1, best) + areas - shared)
        suppressed = (overlap > threshold) & (groups == groups.gather(1, best))
        left = left & (place > first) & ~suppressed
    return kept, (kept >= 0).sum(1)


def _round_down(value: float, dtype: torch.dtype) -> Tensor:
    """Return the largest number of a dtype that is at most `value`.

    Numbers of the dtype are above it exactly if they are above `value`.
    """
    exact = torch.tensor(value, dtype=torch.float64)
    rounded = exact.to(dtype)
    below = torch.nextafter(rounded, rounded.new_tensor(-torch.inf))
    return torch.where(rounded.double() > exact, below, rounded)
