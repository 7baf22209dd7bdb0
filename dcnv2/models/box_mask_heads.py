# SPDX-License-Identifier: BSD-3-Clause
"""Box head and mask head of a whole batch: what they learn from, their losses, their detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcnv2.models import boxes as box_ops
from dcnv2.models.config import BoxHeadConfig
from dcnv2.models.detections import CODER, PaddedDetections, choose_detections, split
from dcnv2.models.losses import box_losses, mask_loss
from dcnv2.models.matching import MATCHED, inside, match
from dcnv2.models.random_keys import Stream
from dcnv2.models.rpn import Proposals
from dcnv2.models.sampling import Rows, Sample, draw, occupied
from dcnv2.models.targets import Targets

# Candidates of an image that there is room for at first: more than a trained detector leaves.
ROOM = 4096


@dataclass(frozen=True)
class Samples:
    """RoIs to learn from, in S slots of each of N images.

    Attributes:
        boxes: [N, S, 4], positive ones first.
        labels: int64 [N, S], 0 is background.
        matched: int64 [N, S], their objects.
        targets: [N, S, 4], regression targets, 0 for background.
        drawn: which slots have a RoI, and which of the first ones a positive one.
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    targets: Tensor
    drawn: Sample


class BoxMaskHeads(nn.Module):
    """Box head and mask head over pooled maps; the names of parts are torchvision's.

    With a mask predictor but no mask head, masks are predicted from the box head's conv5 maps.

    Attributes:
        score_thresh, nms_thresh, detections_per_img: what detections are kept.
        class_weights: [classes + 1], in the classification loss.
        room: candidates of an image that `detect_padded` looks at.
    """

    # Modules, or None where masks have none.
    box_roi_pool: Any
    box_head: Any
    box_predictor: Any
    mask_roi_pool: Any
    mask_head: Any
    mask_predictor: Any

    def __init__(
        self,
        config: BoxHeadConfig,
        box_roi_pool: nn.Module,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_roi_pool: nn.Module | None = None,
        mask_head: nn.Module | None = None,
        mask_predictor: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.box_roi_pool, self.box_head = box_roi_pool, box_head
        self.box_predictor = box_predictor
        self.mask_roi_pool, self.mask_head = mask_roi_pool, mask_head
        self.mask_predictor = mask_predictor
        self.score_thresh, self.nms_thresh = config.score_threshold, config.nms
        self.detections_per_img = config.detections_per_image
        self.class_weights: Tensor | None = None
        self.room = ROOM

    def box_features(self, features: dict[str, Tensor], boxes: list[Tensor] | Tensor) -> Tensor:
        """What the box predictor reads: [R, hidden] of boxes as `RoIPooler` takes them."""
        return self.box_head(self.box_roi_pool(features, boxes))

    def mask_logits(self, features: dict[str, Tensor], boxes: list[Tensor] | Tensor) -> Tensor:
        """[R, classes + 1, size, size] of boxes as `RoIPooler` takes them."""
        if self.shared:
            maps = self.box_head.layer4(self.box_roi_pool(features, boxes))
        else:
            maps = self.mask_head(self.mask_roi_pool(features, boxes))
        return self.mask_predictor(maps)

    def has_mask(self) -> bool:
        """Whether masks are predicted."""
        return self.mask_predictor is not None

    @property
    def shared(self) -> bool:
        """Whether masks are predicted from the box head's conv5 maps."""
        return self.has_mask() and self.mask_head is None

    @torch.no_grad()
    def match(self, boxes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Labels [N, R] of boxes [N, R, 4], 0 for background, and the objects that they match."""
        threshold = self.config.positive_iou
        found = match(targets.boxes, targets.present, boxes, threshold, threshold)
        labels = targets.labels.gather(1, found.index)
        return labels.masked_fill(found.state != MATCHED, 0), found.index

    @torch.no_grad()
    def sample(self, proposals: Proposals, targets: Targets) -> Samples:
        """Draws RoIs from the proposals and the objects' own boxes.

        Proposals in regions to ignore are left out.
        """
        boxes = torch.cat([proposals.boxes, targets.boxes.to(proposals.boxes.dtype)], dim=1)
        present = torch.cat([proposals.valid(), targets.present], dim=1)
        labels, matched = self.match(boxes, targets)
        if targets.ignored.shape[1]:
            ignored = inside(proposals.boxes, targets.ignored)
            present = present & ~F.pad(ignored, (0, targets.boxes.shape[1]))
        keys = targets.keys(Stream.PROPOSALS, boxes.shape[1])
        config = self.config
        drawn = draw(
            labels.where(present, -1), keys, config.batch_per_image, config.positive_fraction
        )
        chosen = box_ops.take(boxes, drawn.index)
        labels, matched = labels.gather(1, drawn.index), matched.gather(1, drawn.index)
        objects = box_ops.take(targets.boxes.to(boxes.dtype), matched)
        regression = box_ops.encode(objects, chosen, CODER)
        return Samples(
            *(chosen, labels, matched, regression.masked_fill(labels[..., None] < 1, 0), drawn)
        )

    def losses(
        self, features: dict[str, Tensor], proposals: Proposals, targets: Targets
    ) -> dict[str, Tensor]:
        """Losses in training.

        Args:
            features: maps of the backbone by name.
            proposals: of the RPN.
            targets: with masks, if they are predicted.
        """
        samples, config = self.sample(proposals, targets), self.config
        rows = occupied(samples.drawn.drawn())
        rois = as_rois(samples.boxes, rows)
        if self.shared:
            maps = self.box_head.layer4(self.box_roi_pool(features, rois))
            logits, deltas = self.box_predictor(self.box_head.average(maps))
        else:
            maps = None
            logits, deltas = self.box_predictor(self.box_features(features, rois))
        losses = box_losses(
            *(logits, deltas, rows.of(samples.labels), rows.of(samples.targets), rows),
            *(samples.labels.shape, config.ohem, config.smooth_l1_beta, self.class_weights),
        )
        if self.has_mask():
            losses["loss_mask"] = self._mask_loss(features, samples, targets, rows, maps)
        return losses

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        samples: Samples,
        targets: Targets,
        rows: Rows,
        maps: Tensor | None,
    ) -> Tensor:
        """The loss of the positive RoIs' masks.

        Args:
            features: maps of the backbone by name.
            samples: what the boxes were learned from.
            targets: of the batch.
            rows: of all RoIs.
            maps: their maps, if the heads share them.
        """
        limit, slots = samples.drawn.limit, samples.labels.shape[1]
        positive = occupied(samples.drawn.positive())
        boxes = positive.of(samples.boxes[:, :limit])
        image = positive.index // max(limit, 1)
        if maps is None:
            logits = self.mask_logits(features, as_rois(samples.boxes[:, :limit], positive))
        else:
            place = torch.empty_like(samples.labels).flatten()
            place[rows.index] = torch.arange(len(rows.index), device=place.device)
            logits = self.mask_predictor(maps[place[positive.index + image * (slots - limit)]])
        assert targets.masks is not None  # the detector has checked them
        matched = positive.of(samples.matched[:, :limit]) + image * targets.boxes.shape[1]
        wanted = targets.masks.crop(boxes, image, matched, logits.shape[-1])
        labels = positive.of(samples.labels[:, :limit])
        return mask_loss(logits, labels, wanted, positive.weight)

    def detect(
        self, features: dict[str, Tensor], proposals: Proposals, limits: Tensor
    ) -> list[dict[str, Tensor]]:
        """Detections of each image, best first.

        The host waits twice for the device: to learn how many candidates the score threshold
        leaves, and how many detections remain.

        Args:
            features: maps of the backbone by name.
            proposals: of the RPN.
            limits: [N, 2], width and height of each image.

        Returns:
            Dicts of `boxes` [K, 4], `scores` [K], `labels` [K] and, with masks, `masks`
            [K, 1, M, M].
        """
        found = self._choose(features, proposals, limits)
        results = split(found.columns, found.counts)
        if self.has_mask():
            boxes = [result["boxes"] for result in results]
            masks = self._masks(
                features, boxes, torch.cat([result["labels"] for result in results])
            )
            # Of one image all, so that a traced graph keeps no number of detections.
            counts = [len(result["boxes"]) for result in results[1:]]
            parts = masks.split([len(masks) - sum(counts), *counts]) if counts else [masks]
            for result, part in zip(results, parts, strict=True):
                result["masks"] = part
        return results

    def detect_padded(
        self, features: dict[str, Tensor], proposals: Proposals, limits: Tensor
    ) -> PaddedDetections:
        """The same without waiting for the device, from at most `room` candidates an image."""
        found = self._choose(features, proposals, limits, self.room)
        if self.has_mask():
            labels = found.columns["labels"]
            every = Rows(torch.arange(labels.numel(), device=labels.device), torch.ones(()))
            masks = self._masks(features, as_rois(found.columns["boxes"], every), labels.flatten())
            found.columns["masks"] = masks.unflatten(0, labels.shape)
        return found

    def _choose(
        self,
        features: dict[str, Tensor],
        proposals: Proposals,
        limits: Tensor,
        most_candidates: int | None = None,
    ) -> PaddedDetections:
        """Detections without masks, see `choose_detections`."""
        rows = occupied(proposals.valid())
        rois = as_rois(proposals.boxes, rows)
        logits, deltas = self.box_predictor(self.box_features(features, rois))
        slots = proposals.valid().shape
        scores = rows.spread(F.softmax(logits, -1)[:, 1:], slots, -torch.inf)
        return choose_detections(
            *(scores, rows.spread(deltas, slots, 0.0), proposals.boxes, limits),
            *(self.score_thresh, self.nms_thresh, self.detections_per_img, most_candidates),
        )

    def _masks(
        self, features: dict[str, Tensor], boxes: list[Tensor] | Tensor, labels: Tensor
    ) -> Tensor:
        """Probabilities [R, 1, M, M] of boxes as `RoIPooler` takes them, of classes int64 [R]."""
        logits = self.mask_logits(features, boxes)
        channel = labels[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        return logits.sigmoid().gather(1, channel)


def as_rois(boxes: Tensor, rows: Rows) -> Tensor:
    """Rows of boxes [N, S, 4] as `RoIPooler` takes them: [R, 5], after the number of the image."""
    image = (rows.index // max(boxes.shape[1], 1))[:, None]
    return torch.cat([image.to(boxes.dtype), rows.of(boxes)], dim=1)
