# SPDX-License-Identifier: BSD-3-Clause
"""Non-maximum suppression of a batch."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor
from torch.nn.functional import pad

from dcnv2.models.transfer import is_tracing
from dcnv2.ops import batched_nms


def suppress(
    boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, limit: int
) -> tuple[Tensor, Tensor]:
    """Keeps the best of overlapping boxes, in each group of each image.

    Args:
        boxes: [N, K, 4].
        scores: [N, K]; boxes of -inf are left out.
        groups: int64 [N, K], levels or classes.
        threshold: IoU above which the box of lower score is removed.
        limit: most boxes of an image.

    Returns:
        Indices of the boxes kept, best first, int64 [N, min(limit, K)], and how many there are,
        int64 [N, 1]; indices beyond are 0.
    """
    slots = min(limit, boxes.shape[1])
    scores = scores.to(boxes.dtype)
    if is_tracing():
        return _traceable(boxes, scores, groups, threshold, slots)
    index, counts = batched_nms(boxes, scores, groups, threshold, slots)
    return index.clamp(min=0), counts[:, None]


def _traceable(
    boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, slots: int
) -> tuple[Tensor, Tensor]:
    """The same by an operator that ONNX has."""
    index, counts = [], []
    for box, score, group in zip(boxes, scores, groups, strict=True):
        (present,) = torch.where(score > -torch.inf)
        operands = box[present], score[present], group[present]
        kept = present[torchvision.ops.batched_nms(*operands, threshold)][:slots]
        counts.append(torch.ones_like(kept).sum())
        index.append(pad(kept, (0, slots))[:slots])
    return torch.stack(index), torch.stack(counts)[:, None]
