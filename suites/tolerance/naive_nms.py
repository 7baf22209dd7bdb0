# SPDX-License-Identifier: BSD-3-Clause
"""A naive batched non-maximum suppression, in steps that a mutant can replace."""

from __future__ import annotations

import torch
from torch import Tensor


class NaiveNms:
    """Call it as the operator."""

    def __call__(
        self, boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, max_out: int
    ) -> tuple[Tensor, Tensor]:
        indices = torch.full((boxes.shape[0], max_out), self.padding())
        counts = torch.zeros(boxes.shape[0], dtype=torch.int64)
        for image in range(boxes.shape[0]):
            kept = self.suppress(boxes[image], scores[image], groups[image], iou_threshold)
            kept = self.cut(kept, max_out)
            indices[image, : len(kept)] = kept
            counts[image] = self.count(kept, scores[image])
        return indices, counts

    def suppress(self, boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
        """The kept boxes of an image in their order."""
        order = self.order(scores)
        left = self.present(scores)[order]
        kept = []
        for place, box in enumerate(order.tolist()):
            if not left[place]:
                if not self.suppresses_when_suppressed():
                    continue
            else:
                kept.append(box)
            later = order[place + 1 :]
            exceeded = self.exceeds(self.overlap(boxes[box], boxes[later]), threshold)
            left[place + 1 :] &= ~(exceeded & self.same_group(groups[box], groups[later]))
        return torch.tensor(kept, dtype=torch.int64)

    # ---- steps

    def order(self, scores: Tensor) -> Tensor:
        """Indices by descending score and ascending index."""
        return scores.sort(descending=True, stable=True).indices

    def present(self, scores: Tensor) -> Tensor:
        """Whether there is a box."""
        return scores != -torch.inf

    def suppresses_when_suppressed(self) -> bool:
        """Whether a box that is suppressed suppresses others."""
        return False

    def length(self, first: Tensor, last: Tensor) -> Tensor:
        """Extent of boxes along an axis."""
        return last - first

    def overlap(self, box: Tensor, others: Tensor) -> Tensor:
        """Intersection over union of a box and others."""
        x1, y1, x2, y2 = (side for side in others.unbind(1))
        width = self.length(torch.maximum(box[0], x1), torch.minimum(box[2], x2))
        height = self.length(torch.maximum(box[1], y1), torch.minimum(box[3], y2))
        shared = self.clamped(width) * self.clamped(height)
        own = self.length(box[0], box[2]) * self.length(box[1], box[3])
        return self.quotient(shared, own, self.length(x1, x2) * self.length(y1, y2))

    def clamped(self, length: Tensor) -> Tensor:
        """No negative extent."""
        return length.clamp(min=0)

    def quotient(self, shared: Tensor, own: Tensor, areas: Tensor) -> Tensor:
        """Shared area over union."""
        return shared / (own + areas - shared)

    def exceeds(self, overlap: Tensor, threshold: float) -> Tensor:
        """Whether overlaps exceed the threshold."""
        return overlap > threshold

    def same_group(self, group: Tensor, groups: Tensor) -> Tensor:
        """Whether boxes can suppress each other."""
        return group == groups

    def cut(self, kept: Tensor, max_out: int) -> Tensor:
        """The first kept boxes."""
        return kept[:max_out]

    def count(self, kept: Tensor, scores: Tensor) -> int:
        """The number of boxes that are returned."""
        return len(kept)

    def padding(self) -> int:
        """The index of no box."""
        return -1
