# SPDX-License-Identifier: BSD-3-Clause
"""The detector as a whole: transform, backbone, RPN, RoI heads and, in training, mimicking."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from dcnv2.models.backbone import Backbone
from dcnv2.models.matching import inside
from dcnv2.models.mimic import FeatureMimicking
from dcnv2.models.roi_heads import BoxMaskHeads
from dcnv2.models.transform import Transform


class LevelRPN(RegionProposalNetwork):
    """torchvision's RPN on the maps that the backbone names for it, instead of on all.

    In evaluation it keeps the scores of its proposals, which torchvision's drops.
    """

    levels: tuple[str, ...] = ()
    scores: list[Tensor] | None = None

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals [R_i, 4] an image, and `loss_objectness` and `loss_rpn_box_reg` in training."""
        chosen = {level: features[level] for level in self.levels}
        return super().forward(images, chosen, targets)

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """torchvision's, but anchors in regions to ignore are no background."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            if "ignore" in target:
                label[(label == 0) & inside(anchor, target["ignore"])] = -1
        return labels, boxes

    def filter_proposals(self, *operands: Any) -> tuple[list[Tensor], list[Tensor]]:
        """torchvision's choice of proposals, with the scores kept aside."""
        boxes, self.scores = super().filter_proposals(*operands)
        return boxes, self.scores


class Detector(GeneralizedRCNN):
    """torchvision's `GeneralizedRCNN`, where RoI heads may be absent and mimicking may be present.

    Args:
        transform: resizes and normalises.
        backbone: maps by name.
        rpn: proposals.
        roi_heads: None makes a proposal network: its detections are the proposals, all of class 1.
        mimic: the training-only branch, or None.
    """

    def __init__(
        self,
        transform: Transform,
        backbone: Backbone,
        rpn: LevelRPN,
        roi_heads: BoxMaskHeads | None,
        mimic: FeatureMimicking | None = None,
    ) -> None:
        super().__init__(backbone, rpn, roi_heads, transform)
        self.mimic = mimic

    def forward(
        self,
        images: list[Tensor],
        targets: list[dict[str, Any]] | None = None,
        paste_masks: bool = True,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses by name in training, detections in evaluation.

        Args:
            images: float [3, H, W] in [0, 1], of any sizes.
            targets: in training, `boxes` [K, 4] (x1, y1, x2, y2) in pixels, `labels` int64 [K] from
                1, `masks` uint8 [K, H, W] or `RunLengthMasks`; where given, `iscrowd` [K] (such
                objects are neither learned nor taken for background) and `image_id` (named in
                errors).
            paste_masks: paste predicted masks into planes of the image's size, as torchvision's
                detectors do; otherwise they are as predicted, which takes far less memory.

        Returns:
            A dict of scalars, or one dict an image with `boxes`, `labels`, `scores`, `masks`
            ([K, 1, H, W] in [0, 1], or [K, 1, M, M] over each box), best first, in pixels of the
            image given.

        Raises:
            ValueError: training without targets, or a box without area.
        """
        if self.training:
            _check_targets(images, targets)
            targets = [_split_crowd(target) for target in targets or ()]
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, targets = self.transform(images, targets)
        features = self.backbone(batch.tensors)
        proposals, losses = self.rpn(batch, features, targets)
        if self.roi_heads is None:
            detections = self._proposals(proposals)
        else:
            detections, head_losses = self.roi_heads(
                features, proposals, batch.image_sizes, targets
            )
            losses.update(head_losses)
        if not self.training:
            return self._in_image_pixels(detections, batch.image_sizes, sizes, paste_masks)
        if self.mimic is not None:
            losses.update(
                self.mimic(batch, features, proposals, targets, self.backbone, self.roi_heads)
            )
        return losses

    def dense_parts(self) -> list[nn.Module]:
        """What torch.compile gains by: the backbone and the heads, without the choice of boxes."""
        heads = self.roi_heads
        parts = [self.backbone, self.rpn.head]
        if heads is not None:
            parts += [heads.box_head, heads.box_predictor, heads.mask_head, heads.mask_predictor]
        return [part for part in parts if part is not None]

    def _in_image_pixels(
        self,
        detections: list[dict[str, Tensor]],
        input_sizes: list[tuple[int, int]],
        sizes: list[tuple[int, int]],
        paste_masks: bool,
    ) -> list[dict[str, Tensor]]:
        as_predicted = [{} if paste_masks else _pop_masks(found) for found in detections]
        detections = self.transform.postprocess(detections, input_sizes, sizes)
        return [{**found, **masks} for found, masks in zip(detections, as_predicted, strict=True)]

    def _proposals(self, proposals: list[Tensor]) -> list[dict[str, Tensor]]:
        return [
            {"boxes": boxes, "scores": scores, "labels": scores.new_ones(len(boxes)).long()}
            for boxes, scores in zip(proposals, self.rpn.scores, strict=True)
        ]


def _pop_masks(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"masks": found.pop("masks")} if "masks" in found else {}


def _split_crowd(target: dict[str, Any]) -> dict[str, Any]:
    """The target with its crowd regions moved to `ignore` [C, 4]."""
    crowd = target.get("iscrowd")
    if crowd is None or not crowd.any():
        return target
    keep = crowd == 0
    per_object = ("boxes", "labels", "masks", "iscrowd", "area")
    kept = {key: value[keep] if key in per_object else value for key, value in target.items()}
    return {**kept, "ignore": target["boxes"][~keep]}


def _check_targets(images: list[Tensor], targets: list[dict[str, Any]] | None) -> None:
    if targets is None or len(targets) != len(images):
        count = "none" if targets is None else len(targets)
        raise ValueError(f"targets: wanted one for each of {len(images)} images, got {count}")
    for index, target in enumerate(targets):
        boxes = target["boxes"]
        if boxes.ndim != 2 or boxes.shape[-1] != 4:
            raise ValueError(f"boxes of target {index}: wanted [K, 4], got {list(boxes.shape)}")
        empty = ~(boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        if empty.any():
            box = int(empty.nonzero()[0])
            name = f"image {int(target['image_id'])}" if "image_id" in target else f"target {index}"
            raise ValueError(f"box {box} of {name} has no area: {boxes[box].tolist()}")
