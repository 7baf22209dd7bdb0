# SPDX-License-Identifier: BSD-3-Clause
"""torchvision's Mask R-CNN as its reference recipe trains it, to be timed beside ours."""

from __future__ import annotations

from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from dcnv2.models import ModelConfig

TRAINABLE_STAGES = 3


def torchvision_detector(config: ModelConfig) -> nn.Module:
    """Builds `maskrcnn_resnet50_fpn` with random weights.

    Norms and the first two stages are frozen, as in training from ImageNet's weights. Options that
    change how much there is to compute are those of our detector.

    Args:
        config: of our detector: number of classes, sizes of images, numbers of proposals and RoIs.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=TRAINABLE_STAGES,
    )
    return MaskRCNN(
        backbone,
        config.num_classes + 1,
        min_size=tuple(config.min_size),
        max_size=config.max_size,
        rpn_pre_nms_top_n_train=config.rpn.pre_nms_train,
        rpn_pre_nms_top_n_test=config.rpn.pre_nms_test,
        rpn_post_nms_top_n_train=config.rpn.post_nms_train,
        rpn_post_nms_top_n_test=config.rpn.post_nms_test,
        box_batch_size_per_image=config.box.batch_per_image,
        box_score_thresh=config.box.score_threshold,
        box_detections_per_img=config.box.detections_per_image,
    )
