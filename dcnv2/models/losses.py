# SPDX-License-Identifier: BSD-3-Clause
"""Losses of the heads, with online hard example mining (OHEM).

Rows are RoIs of a batch; padding has a weight of 0 and counts nowhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dcnv2.models.config import OHEMConfig
from dcnv2.models.sampling import Rows


def box_losses(
    logits: Tensor,
    deltas: Tensor,
    labels: Tensor,
    targets: Tensor,
    rows: Rows,
    shape: torch.Size,
    ohem: OHEMConfig,
    beta: float,
    class_weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy over the RoIs, and smooth L1 of the positive ones over their number.

    Without mining these are torchvision's. `ohem.kind` "batch" keeps the RoIs of the whole batch
    with the highest cross-entropy, only for the classification. "image" keeps those of each image
    with the highest sum of both losses, for both (Shrivastava et al. 2016, section 4.2).

    Args:
        logits: [R, classes + 1].
        deltas: [R, 4 * (classes + 1)], regression a class.
        labels: int64 [R], 0 is background.
        targets: [R, 4], regression targets, finite.
        rows: which of the slots the R rows are, and their weights.
        shape: (N, S), images and slots an image.
        ohem: what is kept.
        beta: where smooth L1 turns from quadratic to linear.
        class_weights: [classes + 1], factors on the cross-entropy of RoIs by label. The mean is
            still over the number of RoIs.

    Returns:
        `loss_classifier` and `loss_box_reg`, scalars.
    """
    per_class = F.cross_entropy(logits, labels, class_weights, reduction="none")
    chosen = deltas.unflatten(1, (-1, 4)).take_along_dim(labels[:, None, None], dim=1)[:, 0]
    error = F.smooth_l1_loss(chosen, targets, beta=beta, reduction="none").sum(1)
    per_box = error * (labels > 0)
    class_weight = box_weight = rows.weight
    if ohem.kind == "batch":
        class_weight = _hardest(per_class, rows, torch.Size([1, shape.numel()]), ohem.keep)
    elif ohem.kind == "image":
        class_weight = box_weight = _hardest(per_class + per_box, rows, shape, ohem.keep)
    return {
        "loss_classifier": _mean(per_class, class_weight),
        "loss_box_reg": _mean(per_box, box_weight),
    }


def mask_loss(logits: Tensor, labels: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of the masks of positive RoIs, each in the channel of its class.

    Args:
        logits: [P, classes + 1, size, size].
        labels: int64 [P].
        wanted: [P, size, size], in [0, 1].
        weight: [P], 1, or 0 for padding.
    """
    chosen = logits.take_along_dim(labels[:, None, None, None], dim=1)[:, 0]
    error = F.binary_cross_entropy_with_logits(chosen, wanted, reduction="none")
    return _mean(error.mean(dim=(1, 2)), weight)


def _hardest(loss: Tensor, rows: Rows, shape: torch.Size, count: int) -> Tensor:
    """Weights [R] that keep the `count` highest losses of each line of a padded `shape`."""
    padded = rows.spread(loss.detach(), shape, -torch.inf)
    best, kept = padded.topk(min(count, shape[1]), dim=1)
    weights = torch.zeros_like(padded).scatter(1, kept, (best > -torch.inf).to(padded.dtype))
    return weights.flatten()[rows.index]


def _mean(loss: Tensor, weight: Tensor) -> Tensor:
    """The mean of rows by weight, 0 of nothing."""
    return (loss * weight).sum() / weight.sum().clamp(min=1)
