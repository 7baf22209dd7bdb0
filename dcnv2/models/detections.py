# SPDX-License-Identifier: BSD-3-Clause
"""From class scores and box deltas of proposals to detections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dcnv2.models import boxes as box_ops
from dcnv2.models.suppression import suppress
from dcnv2.models.transfer import is_tracing

# Weights of the box coder, and the least side of a detection in pixels.
CODER, LEAST_SIDE = (10.0, 5.0), 1e-2


@dataclass(frozen=True)
class PaddedDetections:
    """Detections of N images, best first, padded to D each.

    Attributes:
        columns: `boxes` [N, D, 4], `scores` [N, D], `labels` int64 [N, D] from 1, and perhaps
            `masks` [N, D, 1, M, M].
        counts: int64 [N, 1], number of detections of each image.
        candidates: int64 [], the most boxes of an image above the score threshold.
        limit: most candidates of an image that were looked at.
    """

    columns: dict[str, Tensor]
    counts: Tensor
    candidates: Tensor
    limit: int

    def split(self) -> list[dict[str, Tensor]] | None:
        """A dict an image, in memory of their own; None if there were too many candidates.

        The host waits for the device, once.
        """
        *counts, candidates = torch.cat([self.counts[:, 0], self.candidates[None]]).tolist()
        if candidates > self.limit:
            return None
        return [
            {key: value[image, :count].clone() for key, value in self.columns.items()}
            for image, count in enumerate(counts)
        ]


def choose_detections(
    scores: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    limits: Tensor,
    score_threshold: float,
    nms_threshold: float,
    limit: int,
    most_candidates: int | None = None,
) -> PaddedDetections:
    """The best detections of each image, by NMS in each class.

    Args:
        scores: [N, S, classes] of N images, without background; -inf where there is no proposal.
        deltas: [N, S, 4 * (classes + 1)].
        proposals: [N, S, 4].
        limits: [N, 2], width and height of each image.
        score_threshold: detections have a higher score.
        nms_threshold: IoU above which the detection of lower score is removed.
        limit: most detections of an image.
        most_candidates: how many boxes of an image above the threshold are looked at, the best
            ones. By default all: the host waits for the device to learn how many there are.
    """
    classes = scores.shape[2]
    above = (scores > score_threshold).flatten(1)
    masked = scores.flatten(1).where(above, -torch.inf)
    candidates = above.sum(1).max()
    count = masked.shape[1]
    if most_candidates is not None:
        count = min(most_candidates, count)
    elif not is_tracing():  # a graph has to hold for other images
        count = max(int(candidates), 1)
    # In their order, which decides between equal scores.
    index = masked.topk(count, dim=1).indices.sort(dim=1).values
    score, proposal, label = masked.gather(1, index), index // classes, index % classes + 1
    delta = deltas.unflatten(2, (-1, 4)).flatten(1, 2)
    delta = box_ops.take(delta, proposal * (classes + 1) + label)
    boxes = box_ops.clip(box_ops.decode(delta, box_ops.take(proposals, proposal), CODER), limits)
    score = score.masked_fill(box_ops.smaller_than(boxes, LEAST_SIDE), -torch.inf)
    kept, counts = suppress(boxes, score, label, nms_threshold, limit)
    columns = {
        "boxes": box_ops.take(boxes, kept),
        "scores": score.gather(1, kept),
        "labels": label.gather(1, kept),
    }
    return PaddedDetections(columns, counts, candidates, count)


def split(columns: dict[str, Tensor], counts: Tensor) -> list[dict[str, Tensor]]:
    """The first `counts` [N, 1] rows of [N, D, ...] as a dict an image; the host waits for them."""
    if is_tracing():
        valid = torch.arange(columns["scores"].shape[1], device=counts.device) < counts
        images = range(len(counts))
        return [{key: value[n][valid[n]] for key, value in columns.items()} for n in images]
    return [
        {key: value[image, :count] for key, value in columns.items()}
        for image, count in enumerate(counts[:, 0].tolist())
    ]
