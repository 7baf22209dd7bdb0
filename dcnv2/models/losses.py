# SPDX-License-Identifier: BSD-3-Clause
"""Losses of the heads, with online hard example mining (OHEM)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dcnv2.models.config import OHEMConfig
from dcnv2.models.mask_targets import crop_masks


def box_losses(
    logits: Tensor,
    deltas: Tensor,
    labels: list[Tensor],
    targets: list[Tensor],
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
        labels: one [R_i] an image, 0 is background.
        targets: one [R_i, 4] an image, regression targets.
        ohem: what is kept.
        beta: where smooth L1 turns from quadratic to linear.
        class_weights: [classes + 1], factors on the cross-entropy of RoIs by label. The mean is
            still over the number of RoIs.

    Returns:
        `loss_classifier` and `loss_box_reg`, scalars.
    """
    counts = [len(image) for image in labels]
    label, target = torch.cat(labels), torch.cat(targets)
    per_class = F.cross_entropy(logits, label, class_weights, reduction="none")
    positive = torch.where(label > 0)[0]
    chosen = deltas.unflatten(1, (-1, 4))[positive, label[positive]]
    per_positive = F.smooth_l1_loss(chosen, target[positive], beta=beta, reduction="none").sum(1)
    per_box = per_positive.new_zeros(len(label)).index_put((positive,), per_positive)

    if ohem.kind == "batch":
        kept = hardest(per_class.detach(), ohem.keep)
        return {
            "loss_classifier": _mean(per_class[kept]),
            "loss_box_reg": per_box.sum() / max(len(label), 1),
        }
    if ohem.kind == "image":
        hardness = (per_class + per_box).detach().split(counts)
        starts = torch.tensor([0, *counts]).cumsum(0).tolist()
        kept = torch.cat(
            [hardest(h, ohem.keep) + s for h, s in zip(hardness, starts, strict=False)]
        )
        per_class, per_box = per_class[kept], per_box[kept]
    return {"loss_classifier": _mean(per_class), "loss_box_reg": _mean(per_box)}


def mask_loss(
    logits: Tensor, boxes: list[Tensor], matched: list[Tensor], targets: list[dict[str, Tensor]]
) -> Tensor:
    """Binary cross-entropy of the masks of positive RoIs, each in the channel of its class.

    Args:
        logits: [sum P_i, classes + 1, size, size].
        boxes: one [P_i, 4] an image, in pixels of the network's input.
        matched: one [P_i] an image, indices of objects.
        targets: `labels` [K], `masks` [K, H, W] (see `crop_masks`) and, where masks have another
            size than the network's input, `mask_ratio` [2].
    """
    labels, crops = [], []
    for box, index, target in zip(boxes, matched, targets, strict=True):
        labels.append(target["labels"][index])
        if "mask_ratio" in target:
            box = box * target["mask_ratio"].repeat(2)
        crops.append(crop_masks(target["masks"], box, index, logits.shape[-1]))
    label, wanted = torch.cat(labels), torch.cat(crops)
    if len(label) == 0:
        return logits.sum() * 0.0
    rows = torch.arange(len(label), device=label.device)
    return F.binary_cross_entropy_with_logits(logits[rows, label], wanted)


def hardest(loss: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest losses of [R], or of all where there are fewer."""
    return loss.topk(min(count, len(loss))).indices


def _mean(loss: Tensor) -> Tensor:
    """The mean, 0 of nothing."""
    return loss.sum() / max(len(loss), 1)
