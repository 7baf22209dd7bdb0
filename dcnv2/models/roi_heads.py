# SPDX-License-Identifier: BSD-3-Clause
"""RoI pooling over one or several maps, and the box and mask heads on top of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference
from torchvision.ops.poolers import LevelMapper

from dcnv2.models.backbone import Backbone
from dcnv2.models.config import BackboneConfig, BoxHeadConfig, ModelConfig, PoolConfig
from dcnv2.models.layers import make_pool, norm_layer
from dcnv2.models.losses import box_losses, mask_loss
from dcnv2.models.matching import inside
from dcnv2.models.precise import PreciseBoxPredictor
from dcnv2.models.resnet import make_stage, stage_channels


class RoIPooler(nn.Module):
    """Pools every RoI from the map that fits its size (FPN's rule), by RoIAlign or deformably.

    Each map has a pooling layer of its own, since the branch that predicts offsets sees features of
    that map only.
    """

    def __init__(self, backbone: Backbone, config: PoolConfig, output_size: int) -> None:
        super().__init__()
        self.levels = backbone.roi_levels
        strides = [backbone.strides[level] for level in self.levels]
        self.pools = nn.ModuleList(
            make_pool(config, backbone.out_channels, output_size, 1.0 / stride)
            for stride in strides
        )
        finest = strides[0].bit_length() - 1
        self.assign_levels = LevelMapper(finest, finest + len(strides) - 1)

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor] | Tensor) -> Tensor:
        """Pools the boxes of a batch.

        Args:
            features: maps [N, C, H, W] by name.
            boxes: one [R_i, 4] an image, (x1, y1, x2, y2) in pixels of the padded batch; or all in
                one [R, 5], after the number of the image, which costs no loop over images.

        Returns:
            [sum R_i, C, size, size] in the order of the boxes.
        """
        if isinstance(boxes, Tensor):
            rois = boxes
        else:
            index = torch.cat([torch.full_like(b[:, :1], image) for image, b in enumerate(boxes)])
            rois = torch.cat([index, torch.cat(boxes)], dim=1)
        if len(self.pools) == 1:
            return self.pools[0](features[self.levels[0]], rois)
        level_of = self.assign_levels([rois[:, 1:]])
        order, pooled = [], []
        for level, (name, pool) in enumerate(zip(self.levels, self.pools, strict=True)):
            chosen = torch.where(level_of == level)[0]
            order.append(chosen)
            pooled.append(pool(features[name], rois[chosen]))
        return torch.cat(pooled)[torch.cat(order).argsort()]


class Conv5(nn.Module):
    """conv5 of a ResNet on pooled conv4 features, for the `c4` topology."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.layer4 = make_stage(config, 3, stage_channels(2), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[R, 1024, 14, 14] -> [R, 2048, 7, 7]."""
        return self.layer4(x)


class Conv5BoxHead(Conv5):
    """conv5, then the mean over the bins."""

    def forward(self, x: Tensor) -> Tensor:
        """[R, 1024, 14, 14] -> [R, 2048]."""
        return self.average(super().forward(x))

    def average(self, maps: Tensor) -> Tensor:
        """[R, 2048, 7, 7] -> [R, 2048]."""
        return maps.mean((2, 3))


class BoxMaskHeads(RoIHeads):
    """torchvision's RoI heads with our poolers, and with a choice of losses.

    Sampling, box coding and post-processing are inherited, and so are the names of all parameters.
    With a mask predictor but no mask head, masks are predicted from the box head's conv5 maps.
    """

    def __init__(self, config: BoxHeadConfig, *parts: nn.Module, **mask_parts: nn.Module) -> None:
        super().__init__(
            *parts,
            fg_iou_thresh=config.positive_iou,
            bg_iou_thresh=config.positive_iou,
            batch_size_per_image=config.batch_per_image,
            positive_fraction=config.positive_fraction,
            bbox_reg_weights=None,
            score_thresh=config.score_threshold,
            nms_thresh=config.nms,
            detections_per_img=config.detections_per_image,
            **mask_parts,
        )
        self.config = config
        self.class_weights: Tensor | None = None  # [classes + 1], in the classification loss

    def box_features(self, features: dict[str, Tensor], boxes: list[Tensor] | Tensor) -> Tensor:
        """What the box predictor reads: [R, hidden] of boxes as `RoIPooler` takes them."""
        return self.box_head(self.box_roi_pool(features, boxes))

    def mask_logits(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """[sum R_i, classes + 1, size, size] of boxes [R_i, 4] an image."""
        if self.shared:
            maps = self.box_head.layer4(self.box_roi_pool(features, boxes))
        else:
            maps = self.mask_head(self.mask_roi_pool(features, boxes))
        return self.mask_predictor(maps)

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """torchvision's, without the proposals that lie in regions to ignore."""
        proposals = [
            proposal[~inside(proposal, target["ignore"])] if "ignore" in target else proposal
            for proposal, target in zip(proposals, targets, strict=True)
        ]
        return super().select_training_samples(proposals, targets)

    def has_mask(self) -> bool:
        """Whether masks are predicted."""
        return self.mask_predictor is not None

    @property
    def shared(self) -> bool:
        """Whether masks are predicted from the box head's conv5 maps."""
        return self.has_mask() and self.mask_head is None

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections in evaluation, losses in training (the other is empty).

        Args:
            features: maps of the backbone by name.
            proposals: [R_i, 4] an image.
            image_shapes: (height, width) of each image without padding.
            targets: `boxes`, `labels` and, with masks, `masks` of each image, in training.
        """
        if self.training:
            return [], self._losses(features, proposals, targets)
        return self._detections(features, proposals, image_shapes), {}

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        targets: list[dict[str, Tensor]] | None,
    ) -> dict[str, Tensor]:
        assert targets is not None  # the detector has checked them
        boxes, matched, labels, regression = self.select_training_samples(proposals, targets)
        if self.shared:
            maps = self.box_head.layer4(self.box_roi_pool(features, boxes))
            logits, deltas = self.box_predictor(self.box_head.average(maps))
        else:
            logits, deltas = self.box_predictor(self.box_features(features, boxes))
        config = self.config
        losses = box_losses(
            *(logits, deltas, labels, regression, config.ohem, config.smooth_l1_beta),
            self.class_weights,
        )
        if not self.has_mask():
            return losses
        positive = [torch.where(label > 0)[0] for label in labels]
        chosen = [b[p] for b, p in zip(boxes, positive, strict=True)]
        if self.shared:
            mask_logits = self.mask_predictor(maps[torch.cat(labels) > 0])
        else:
            mask_logits = self.mask_logits(features, chosen)
        index = [m[p] for m, p in zip(matched, positive, strict=True)]
        losses["loss_mask"] = mask_loss(mask_logits, chosen, index, targets)
        return losses

    def _detections(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        logits, deltas = self.box_predictor(self.box_features(features, proposals))
        columns = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        results = [
            {"boxes": boxes, "scores": scores, "labels": labels}
            for boxes, scores, labels in zip(*columns, strict=True)
        ]
        if self.has_mask():
            logits = self.mask_logits(features, [result["boxes"] for result in results])
            masks = maskrcnn_inference(logits, [result["labels"] for result in results])
            for result, mask in zip(results, masks, strict=True):
                result["masks"] = mask
        return results


def build_roi_heads(config: ModelConfig, backbone: Backbone) -> BoxMaskHeads:
    """The heads over a backbone; classes are counted with background as 0."""
    conv5 = config.backbone.arch != "small" and config.backbone.topology == "c4"
    if config.mask.shared and not conv5:
        raise ValueError("mask.shared: only the c4 topology has features that masks can share")
    box_head, channels = _box_head(config, backbone.out_channels, conv5)
    return BoxMaskHeads(
        config.box,
        RoIPooler(backbone, config.box.pool, config.box.pool_size),
        box_head,
        PreciseBoxPredictor(channels, config.num_classes + 1),
        **(_mask_parts(config, backbone, conv5) if config.mask.enabled else {}),
    )


def _box_head(config: ModelConfig, channels: int, conv5: bool) -> tuple[nn.Module, int]:
    """The head and the number of features that it returns."""
    box = config.box
    if conv5:
        return Conv5BoxHead(config.backbone), stage_channels(3)
    if box.convs:
        shape = (channels, box.pool_size, box.pool_size)
        head = FastRCNNConvFCHead(shape, box.convs, [box.hidden_channels], norm_layer(box.norm))
    else:
        head = TwoMLPHead(channels * box.pool_size**2, box.hidden_channels)
    return head, box.hidden_channels


def _mask_parts(config: ModelConfig, backbone: Backbone, conv5: bool) -> dict[str, nn.Module]:
    mask, channels = config.mask, backbone.out_channels
    if conv5:
        head_channels = stage_channels(3)
        head = None if mask.shared else Conv5(config.backbone)
    else:
        head_channels = [channels, *mask.convs][-1]
        head = MaskRCNNHeads(channels, mask.convs, 1, norm_layer(mask.norm))
    classes = config.num_classes + 1
    parts = {"mask_predictor": MaskRCNNPredictor(head_channels, mask.deconv_channels, classes)}
    if head is not None:
        parts["mask_head"] = head
        parts["mask_roi_pool"] = RoIPooler(backbone, mask.pool, mask.pool_size)
    return parts
