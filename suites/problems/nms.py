# SPDX-License-Identifier: BSD-3-Clause
"""Problems of batched non-maximum suppression, and their boxes.

Corners are whole numbers below 64, so areas and their sums are exact in every dtype. Overlaps are
quotients of such numbers: they equal a threshold exactly, or differ by more than rounding does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import reference
from suites.problems.problem import Problem

BOX_KINDS = ("grid", "identical", "nested", "flat", "inverted", "apart", "not finite")
SCORE_KINDS = ("distinct", "tied", "equal", "absent", "all absent", "not finite")
# The overlaps of whole boxes are often a multiple of a quarter, and never close to 0.618034.
THRESHOLDS = (0.5, 0.0, 0.25, 0.75, 1.0, 0.618034)
NMS_DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class NmsProblem(Problem):
    """Non-maximum suppression of a batch."""

    op = "batched_nms"
    operand_names = ("boxes", "scores", "groups")
    differentiable = ()
    reference = staticmethod(reference.batched_nms)

    batch: int = 2
    count: int = 9  # boxes of an image
    group_count: int = 2
    max_out: int = 7
    iou_threshold: float = 0.5
    boxes: str = "grid"
    scores: str = "distinct"
    extent: int = 8  # of the image; the smaller, the more boxes overlap
    dtype: str = "float64"
    dtypes: tuple[tuple[str, str], ...] = ()
    layouts: tuple[tuple[str, str], ...] = ()
    seed: int = 0

    def operand_dtype(self, name: str) -> torch.dtype:
        return torch.int64 if name in ("groups", "output") else super().operand_dtype(name)

    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.max_out + 1)

    def options(self) -> dict:
        return {"iou_threshold": self.iou_threshold, "max_out": self.max_out}

    def single(self, result: tuple[Tensor, Tensor]) -> Tensor:
        """The kept indices and, in the last column, their counts."""
        indices, counts = result
        return torch.cat([indices, counts.unsqueeze(1)], 1)

    def values(self) -> dict[str, Tensor | None]:
        groups = self._whole("groups", self.group_count, self.batch, self.count)
        return {
            "boxes": self._boxes(),
            "scores": self._scores(),
            "groups": groups - 1,  # negative ones too
        }

    def _whole(self, name: str, below: int, *shape: int) -> Tensor:
        """Random whole numbers, float64."""
        return torch.randint(below, shape, generator=self.generator(name)).double()

    def _boxes(self) -> Tensor:
        shape = (self.batch, self.count, 2)
        first = self._whole("first", self.extent, *shape)
        size = 1 + self._whole("size", self.extent, *shape)
        if self.boxes == "identical":
            first, size = torch.ones_like(first), torch.full_like(size, 3)
        elif self.boxes == "nested":
            first = torch.zeros_like(first)
        elif self.boxes == "flat":
            size = size * (self._whole("flat", 3, *shape) > 0)
        elif self.boxes == "inverted":
            size = size * torch.where(self._whole("inverted", 3, *shape) > 0, 1, -1)
        elif self.boxes == "apart":
            steps = torch.arange(self.count, dtype=torch.float64)
            first, size = steps[None, :, None].expand(shape), torch.ones_like(size)
        boxes = torch.cat([first, first + size], 2)
        return self._sprinkled("box", boxes) if self.boxes == "not finite" else boxes

    def _sprinkled(self, name: str, values: Tensor) -> Tensor:
        """Some values replaced by NaN and infinities."""
        extreme = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=torch.float64)
        kinds = self._whole(f"{name} kinds", 3, *values.shape).long()
        chosen = self._whole(f"{name} chosen", 8, *values.shape) == 0
        return torch.where(chosen, extreme[kinds], values)

    def _scores(self) -> Tensor:
        shape = (self.batch, self.count)
        generator = self.generator("scores")
        ranks = [torch.randperm(self.count, generator=generator) for _ in range(self.batch)]
        scores = torch.stack(ranks).double() - 3 if ranks else torch.zeros(shape).double()
        if self.scores == "tied":
            scores = (scores / 4).floor()
        elif self.scores == "equal":
            scores = torch.zeros_like(scores)
        elif self.scores == "absent":
            scores = scores.where(self._whole("absent", 2, *shape) > 0, -torch.inf)
        elif self.scores == "all absent":
            scores = torch.full_like(scores, -torch.inf)
        return self._sprinkled("score", scores) if self.scores == "not finite" else scores
