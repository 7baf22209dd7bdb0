# SPDX-License-Identifier: BSD-3-Clause
"""Random samples of positive and negative boxes, with the same number of slots for every image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """Which of R boxes were drawn for each of N images.

    Attributes:
        index: int64 [N, S], positive boxes first. Slots from `count` on repeat the others.
        positives: int64 [N, 1], number of positive boxes, at most `limit`.
        count: int64 [N, 1], number of boxes.
        limit: most positive boxes of an image.
    """

    index: Tensor
    positives: Tensor
    count: Tensor
    limit: int

    def drawn(self) -> Tensor:
        """Whether a slot has a box of its own, bool [N, S]."""
        return torch.arange(self.index.shape[1], device=self.index.device) < self.count

    def positive(self) -> Tensor:
        """Whether each of the first `limit` slots has a positive box, bool [N, limit]."""
        return torch.arange(self.limit, device=self.index.device) < self.positives


def draw(labels: Tensor, keys: Tensor, size: int, positive_fraction: float) -> Sample:
    """Draws `size` boxes of each image, at most `positive_fraction` of them positive.

    Among equals each has the same chance, as in Fast R-CNN: the boxes with the largest keys.

    Args:
        labels: [N, R], positive above 0, negative at 0, neither below.
        keys: int32 [N, R], random, not negative.
        size: number of boxes; fewer where there are not as many.
        positive_fraction: largest share of positive ones.
    """
    slots = min(size, labels.shape[1])
    limit = min(int(size * positive_fraction), slots)
    best_positive, positive = keys.where(labels > 0, -1).topk(limit, dim=1)
    best_negative, negative = keys.where(labels == 0, -1).topk(slots, dim=1)
    positives = (best_positive >= 0).sum(1, keepdim=True)
    negatives = (best_negative >= 0).sum(1, keepdim=True).minimum(size - positives)
    count = positives + negatives
    # Slot j is the j-th positive box while there are some, then the negative ones.
    slot = torch.arange(slots, device=labels.device) % count.clamp(min=1)
    slot = slot.where(slot < positives, slot - positives + limit)
    index = torch.cat([positive, negative], dim=1).gather(1, slot)
    return Sample(index, positives, count, limit)


@dataclass(frozen=True)
class Rows:
    """Slots of a padded [N, S] that are computed.

    Attributes:
        index: int64 [R], their numbers in N * S.
        weight: float32 [R], 1, or 0 for a slot that only pads.
    """

    index: Tensor
    weight: Tensor

    def of(self, padded: Tensor) -> Tensor:
        """Rows [R, ...] of [N, S, ...]."""
        return padded.flatten(0, 1)[self.index]

    def spread(self, rows: Tensor, slots: torch.Size, fill: float) -> Tensor:
        """[N, S, ...] of rows [R, ...], with `fill` where no row is or where it only pads."""
        padding = (self.weight == 0).view(-1, *(1 for _ in rows.shape[1:]))
        padded = rows.new_full((slots.numel(), *rows.shape[1:]), fill)
        padded = padded.index_copy(0, self.index, rows.masked_fill(padding, fill))
        return padded.unflatten(0, tuple(slots))


def occupied(valid: Tensor) -> Rows:
    """The rows of bool [N, S] that have to be computed.

    A CPU computes no others. Elsewhere the host would have to wait to learn how many there are, so
    all are computed, and padding has no weight.
    """
    flat = valid.flatten()
    if valid.device.type == "cpu":
        index = flat.nonzero()[:, 0]
        return Rows(index, torch.ones(len(index)))
    return Rows(torch.arange(len(flat), device=flat.device), flat.float())
