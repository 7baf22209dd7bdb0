# SPDX-License-Identifier: BSD-3-Clause
"""R-CNN feature mimicking (DCNv2 paper, section 3.3): a branch that exists in training only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from dcnv2.models.backbone import Backbone
from dcnv2.models.config import MimicConfig
from dcnv2.models.roi_heads import BoxMaskHeads


class FeatureMimicking(nn.Module):
    """Makes the features of a box resemble those of its image patch on its own.

    Positive proposals of the RPN (never the objects' own boxes) are cropped from the network's
    input, resized, and sent through the same backbone, box pooling and fc layers as one whole RoI
    each. A classifier of its own learns their classes; the cosine between both features of a box
    is pulled to 1. All crops of a batch are one batch.

    The branch holds only the classifier: shared parts are passed in, so that they are registered
    once.
    """

    def __init__(self, config: MimicConfig, features: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.classifier = nn.Linear(features, num_classes + 1)

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        targets: list[dict[str, Tensor]],
        backbone: Backbone,
        heads: BoxMaskHeads,
    ) -> dict[str, Tensor]:
        """The losses `loss_mimic_cls` and `loss_mimic_cos`, 0 where no proposal is positive.

        Args:
            images: the padded batch that the backbone saw.
            features: its maps.
            proposals: [R_i, 4] an image, of the RPN.
            targets: `boxes` and `labels` of each image.
            backbone: shared.
            heads: shared; box pooling and fc layers are used.
        """
        boxes, labels = self._sample(proposals, targets, heads)
        label = torch.cat(labels)
        if len(label) == 0:
            # A zero that reaches the classifier, so that its gradient is there on every process.
            sums = [p.sum() for p in self.classifier.parameters()]
            nothing = torch.stack(sums).sum() * 0.0
            return {"loss_mimic_cls": nothing, "loss_mimic_cos": nothing}
        crops = self._crop(images, boxes)
        # Each crop is an image of its own, whole.
        whole = crops.new_full((len(crops), 5), self.config.crop_size)
        whole[:, 0] = torch.arange(len(crops), device=crops.device)
        whole[:, 1:3] = 0
        alone = heads.box_features(backbone(crops), whole)
        context = heads.box_features(features, boxes)
        class_loss = F.cross_entropy(self.classifier(alone), label)
        if self.config.stop_gradient == "rcnn":
            alone = alone.detach()
        elif self.config.stop_gradient == "frcnn":
            context = context.detach()
        distance = 1 - F.cosine_similarity(alone.float(), context.float(), dim=1)
        divisor = {"box": len(distance), "image": len(proposals), "none": 1}
        cosine_loss = distance.sum() / divisor[self.config.normalise]
        return {"loss_mimic_cls": class_loss, "loss_mimic_cos": cosine_loss}

    @torch.no_grad()
    def _sample(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]], heads: BoxMaskHeads
    ) -> tuple[list[Tensor], list[Tensor]]:
        """At most `boxes_per_image` positive proposals an image, at random, and their labels."""
        boxes, classes = [], []
        for proposal, target in zip(proposals, targets, strict=True):
            # Objects are appended so that there is something to match, then left out again.
            objects = target["boxes"].to(proposal)
            _, (label,) = heads.assign_targets_to_proposals(
                [torch.cat([proposal, objects])], [objects], [target["labels"]]
            )
            label = label[: len(proposal)]
            sides = proposal[:, 2:] - proposal[:, :2]
            positive = torch.where((label > 0) & (sides >= self.config.min_side).all(1))[0]
            order = torch.randperm(len(positive), device=positive.device)
            chosen = positive[order[: self.config.boxes_per_image]]
            boxes.append(proposal[chosen])
            classes.append(label[chosen])
        return boxes, classes

    def _crop(self, images: ImageList, boxes: list[Tensor]) -> Tensor:
        """Patches [sum R_i, 3, crop, crop] by bilinear sampling, averaged where they shrink."""
        size = (self.config.crop_size, self.config.crop_size)
        return roi_align(images.tensors, boxes, size, sampling_ratio=-1, aligned=True)
