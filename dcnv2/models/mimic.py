# SPDX-License-Identifier: BSD-3-Clause
"""R-CNN feature mimicking (DCNv2 paper, section 3.3): a branch that exists in training only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from dcnv2.models import boxes as box_ops
from dcnv2.models.backbone import Backbone
from dcnv2.models.box_mask_heads import BoxMaskHeads, as_rois
from dcnv2.models.config import MimicConfig
from dcnv2.models.random_keys import Stream
from dcnv2.models.rpn import Proposals
from dcnv2.models.sampling import draw, occupied
from dcnv2.models.targets import Targets
from dcnv2.models.transform import ImageBatch


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
        images: ImageBatch,
        features: dict[str, Tensor],
        proposals: Proposals,
        targets: Targets,
        backbone: Backbone,
        heads: BoxMaskHeads,
    ) -> dict[str, Tensor]:
        """The losses `loss_mimic_cls` and `loss_mimic_cos`, 0 where no proposal is positive.

        Args:
            images: the padded batch that the backbone saw.
            features: its maps.
            proposals: of the RPN.
            targets: of the batch.
            backbone: shared.
            heads: shared; box pooling and fc layers are used.
        """
        boxes, labels, drawn = self.sample(proposals, targets, heads)
        rows = occupied(drawn)
        if len(rows.index) == 0:
            # A zero that reaches the classifier, so that its gradient is there on every process.
            sums = [p.sum() for p in self.classifier.parameters()]
            nothing = torch.stack(sums).sum() * 0.0
            return {"loss_mimic_cls": nothing, "loss_mimic_cos": nothing}
        rois, label, weight = as_rois(boxes, rows), rows.of(labels), rows.weight
        crops = self.crop(images, rois)
        # Each crop is an image of its own, whole.
        number = torch.arange(len(crops), device=crops.device, dtype=crops.dtype)[:, None]
        whole = F.pad(F.pad(number, (0, 2)), (0, 2), value=self.config.crop_size)
        alone = heads.box_features(backbone(crops), whole)
        context = heads.box_features(features, rois)
        count = weight.sum().clamp(min=1)
        errors = F.cross_entropy(self.classifier(alone), label, reduction="none")
        if self.config.stop_gradient == "rcnn":
            alone = alone.detach()
        elif self.config.stop_gradient == "frcnn":
            context = context.detach()
        distance = 1 - F.cosine_similarity(alone.float(), context.float(), dim=1)
        divisors: dict[str, Tensor | int] = {"box": count, "image": len(boxes), "none": 1}
        return {
            "loss_mimic_cls": (errors * weight).sum() / count,
            "loss_mimic_cos": (distance * weight).sum() / divisors[self.config.normalise],
        }

    @torch.no_grad()
    def sample(
        self, proposals: Proposals, targets: Targets, heads: BoxMaskHeads
    ) -> tuple[Tensor, Tensor, Tensor]:
        """At most `boxes_per_image` positive proposals an image, at random.

        Returns:
            Boxes [N, S, 4], labels int64 [N, S], and which slots are drawn, bool [N, S].
        """
        labels, _ = heads.match(proposals.boxes, targets)
        sides = proposals.boxes[..., 2:] - proposals.boxes[..., :2]
        fits = proposals.valid() & (sides >= self.config.min_side).all(dim=-1)
        keys = targets.keys(Stream.MIMIC, labels.shape[1])
        drawn = draw(
            labels.masked_fill(~fits | (labels == 0), -1), keys, self.config.boxes_per_image, 1.0
        )
        boxes = box_ops.take(proposals.boxes, drawn.index)
        return boxes, labels.gather(1, drawn.index), drawn.drawn()

    def crop(self, images: ImageBatch, rois: Tensor) -> Tensor:
        """Patches [R, 3, crop, crop] by bilinear sampling, averaged where they shrink."""
        size = (self.config.crop_size, self.config.crop_size)
        return roi_align(images.tensors, rois, size, sampling_ratio=-1, aligned=True)
