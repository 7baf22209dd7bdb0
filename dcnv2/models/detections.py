# SPDX-License-Identifier: BSD-3-Clause
"""From class scores and box deltas of proposals to detections."""

from __future__ import annotations

import torch
from torch import Tensor

from dcnv2.models import boxes as box_ops
from dcnv2.models.suppression import suppress
from dcnv2.models.transfer import is_tracing

# Weights of the box coder, and the least side of a detection in pixels.
CODER, LEAST_SIDE = (10.0, 5.0), 1e-2


def choose_detections(
    scores: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    limits: Tensor,
    score_threshold: float,
    nms_threshold: float,
    limit: int,
) -> list[dict[str, Tensor]]:
    """The best detections of each image, by NMS in each class.

    The host waits twice for the device: to learn how many candidates the threshold leaves, and how
    many detections remain.

    Args:
        scores: [N, S, classes] of N images, without background; -inf where there is no proposal.
        deltas: [N, S, 4 * (classes + 1)].
        proposals: [N, S, 4].
        limits: [N, 2], width and height of each image.
        score_threshold: detections have a higher score.
        nms_threshold: IoU above which the detection of lower score is removed.
        limit: most detections of an image.

    Returns:
        Dicts of `boxes` [K, 4], `scores` [K] and `labels` int64 [K] from 1, best first.
    """
    classes = scores.shape[2]
    candidates = (scores > score_threshold).flatten(1)
    masked = scores.flatten(1).where(candidates, -torch.inf)
    count = masked.shape[1]
    if not is_tracing():  # a graph has to hold for other images
        count = max(int(candidates.sum(1).max()), 1)
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
    return split(columns, counts)


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
