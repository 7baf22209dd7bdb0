# SPDX-License-Identifier: BSD-3-Clause
"""The region proposal network, for a whole batch at a time and without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcnv2.models import boxes as box_ops
from dcnv2.models.backbone import Backbone
from dcnv2.models.config import RPNConfig
from dcnv2.models.matching import BACKGROUND, BETWEEN, inside, match
from dcnv2.models.precise import ExactAnchors, PreciseAnchors, PreciseRPNHead
from dcnv2.models.random_keys import Stream
from dcnv2.models.sampling import draw
from dcnv2.models.suppression import suppress
from dcnv2.models.targets import Targets
from dcnv2.models.transform import ImageBatch

# Weights of the box coder, least side of a proposal in pixels, beta of smooth L1.
CODER, LEAST_SIDE, BETA = (1.0, 1.0), 1e-3, 1 / 9


@dataclass(frozen=True)
class Proposals:
    """Boxes of N images, best first, padded to P each.

    Attributes:
        boxes: [N, P, 4], in pixels of the network's input.
        scores: [N, P].
        count: int64 [N, 1], number of proposals of each image.
    """

    boxes: Tensor
    scores: Tensor
    count: Tensor

    def valid(self) -> Tensor:
        """Whether a slot has a proposal, bool [N, P]."""
        return torch.arange(self.boxes.shape[1], device=self.boxes.device) < self.count


class ProposalNetwork(nn.Module):
    """Proposals from the maps that the backbone names for it; the names are torchvision's.

    Args:
        config: what it is made of.
        backbone: whose maps it sees.
        exact: anchors that are not rounded, at the strides of the maps.

    Raises:
        ValueError: anchor sizes and maps do not pair up.
    """

    def __init__(self, config: RPNConfig, backbone: Backbone, exact: bool = False) -> None:
        super().__init__()
        self.config, self.levels = config, backbone.rpn_levels
        if len(config.anchor_sizes) != len(self.levels):
            raise ValueError(
                f"rpn.anchor_sizes: wanted a list for each of {', '.join(self.levels)}, "
                f"got {len(config.anchor_sizes)}"
            )
        sizes = tuple(tuple(sizes) for sizes in config.anchor_sizes)
        ratios = (tuple(config.aspect_ratios),) * len(sizes)
        strides = [backbone.strides[level] for level in self.levels]
        self.anchor_generator = (
            ExactAnchors(sizes, ratios, strides) if exact else PreciseAnchors(sizes, ratios)
        )
        per_place = self.anchor_generator.num_anchors_per_location()[0]
        self.head = PreciseRPNHead(backbone.rpn_channels, per_place)

    @property
    def limits(self) -> tuple[int, int]:
        """Most boxes of a level before NMS, and of an image after it."""
        config = self.config
        if self.training:
            return config.pre_nms_train, config.post_nms_train
        return config.pre_nms_test, config.post_nms_test

    def forward(
        self, images: ImageBatch, features: dict[str, Tensor], targets: Targets | None = None
    ) -> tuple[Proposals, dict[str, Tensor]]:
        """Proposals, and `loss_objectness` and `loss_rpn_box_reg` in training."""
        maps = [features[level] for level in self.levels]
        logits, deltas = self.head(maps)
        anchors = self.anchor_generator.of_batch(images, maps)
        logits, deltas = [_flat(x, 1) for x in logits], [_flat(x, 4) for x in deltas]
        with torch.no_grad():
            proposals = self.propose(logits, deltas, anchors, images.limits)
        if targets is None:
            return proposals, {}
        labels, matched = self.assign(anchors, targets)
        all_logits, all_deltas = torch.cat(logits, dim=1)[..., 0], torch.cat(deltas, dim=1)
        losses = self._losses(all_logits, all_deltas, anchors, labels, matched, targets)
        return proposals, losses

    def propose(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Tensor, limits: Tensor
    ) -> Proposals:
        """The best boxes of each level, without those that overlap better ones.

        Args:
            logits: objectness [N, A_l, 1] of each level.
            deltas: [N, A_l, 4] of each level.
            anchors: [A, 4] of all levels.
            limits: [N, 2], width and height of each image.
        """
        before, after = self.limits
        scores, chosen, places, levels = [], [], [], []
        first = 0
        for level, (logit, delta) in enumerate(zip(logits, deltas, strict=True)):
            count = logit.shape[1]
            score, best = logit[..., 0].topk(min(before, count), dim=1)
            scores.append(score)
            chosen.append(box_ops.take(delta, best))
            places.append(best + first)
            levels.append(torch.full_like(best, level))
            first += count
        box = box_ops.decode(torch.cat(chosen, dim=1), anchors[torch.cat(places, dim=1)], CODER)
        box, score = box_ops.clip(box, limits), torch.cat(scores, dim=1).sigmoid()
        present = ~box_ops.smaller_than(box, LEAST_SIDE) & (score >= 0)  # a NaN is not
        masked = score.where(present, -torch.inf)
        index, kept = suppress(box, masked, torch.cat(levels, dim=1), self.config.nms, after)
        return Proposals(box_ops.take(box, index), score.gather(1, index), kept)

    @torch.no_grad()
    def assign(self, anchors: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """What anchors [A, 4] are to learn: 1, 0 or -1 for neither, and their object; [N, A]."""
        config = self.config
        found = match(
            *(targets.boxes, targets.present, anchors[None]),
            high=config.positive_iou,
            low=config.negative_iou,
            low_quality=True,
        )
        labels = found.state
        if targets.ignored.shape[1]:
            ignored = (labels == BACKGROUND) & inside(anchors[None], targets.ignored)
            labels = labels.masked_fill(ignored, BETWEEN)
        return labels, found.index

    def _losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        labels: Tensor,
        matched: Tensor,
        targets: Targets,
    ) -> dict[str, Tensor]:
        """Cross-entropy and smooth L1 of drawn anchors, as torchvision takes them."""
        keys = targets.keys(Stream.ANCHORS, labels.shape[1])
        drawn = draw(labels, keys, self.config.batch_per_image, self.config.positive_fraction)
        count = drawn.count.sum()
        wanted = labels.gather(1, drawn.index).clamp(min=0).to(logits.dtype)
        objectness = F.binary_cross_entropy_with_logits(
            logits.gather(1, drawn.index), wanted, weight=drawn.drawn().to(logits.dtype),
            reduction="sum",
        )  # fmt: skip
        index, positive = drawn.index[:, : drawn.limit], drawn.positive()
        objects = box_ops.take(targets.boxes, matched.gather(1, index))
        regression = box_ops.encode(objects.to(anchors.dtype), anchors[index], CODER)
        error = F.smooth_l1_loss(
            box_ops.take(deltas, index),
            # Only a positive anchor has an object; others may have a target of infinity.
            regression.masked_fill(~positive[..., None], 0),
            beta=BETA,
            reduction="none",
        )
        return {
            "loss_objectness": objectness / count,
            "loss_rpn_box_reg": (error * positive[..., None]).sum() / count,
        }


def _flat(x: Tensor, channels: int) -> Tensor:
    """[N, A * channels, H, W] to [N, H * W * A, channels], in the order of anchors."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, channels)
