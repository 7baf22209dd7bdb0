# SPDX-License-Identifier: BSD-3-Clause
"""From a configuration to a detector.

Mask R-CNN, Faster R-CNN (no mask head) and proposal networks, with deformable convolutions and
deformable RoI pooling. The DCNv2 paper's form (section 5.1) has the RPN on conv4 and the RoI heads
on conv5, both at stride 16.
"""

from __future__ import annotations

from dcnv2.models.backbone import build_backbone, load_imagenet_weights
from dcnv2.models.config import ModelConfig
from dcnv2.models.detector import Detector
from dcnv2.models.fused import fuse
from dcnv2.models.mimic import FeatureMimicking
from dcnv2.models.roi_heads import Conv5, build_roi_heads
from dcnv2.models.rpn import ProposalNetwork
from dcnv2.models.transform import Transform


def build_model(config: ModelConfig, pretrained: bool = True) -> Detector:
    """Builds the detector.

    Args:
        config: what it is made of.
        pretrained: load `config.backbone.weights`, if any; False where a checkpoint follows.

    Raises:
        ValueError: parts of the configuration that do not go together.
    """
    backbone = build_backbone(config.backbone)
    heads = build_roi_heads(config, backbone) if config.task == "detection" else None
    mimic = None
    if config.mimic.enabled:
        if heads is None:
            raise ValueError("mimic.enabled: a proposal network has no box features to mimic")
        mimic = FeatureMimicking(
            config.mimic, heads.box_predictor.cls_score.in_features, config.num_classes
        )
    if pretrained and config.backbone.weights is not None:
        conv5 = [m for m in heads.modules() if isinstance(m, Conv5)] if heads else []
        load_imagenet_weights(
            [backbone.body, *conv5], config.backbone.arch, config.backbone.weights
        )
    transform = Transform(
        *(config.min_size, config.max_size, config.image_mean, config.image_std),
        size_divisible=config.size_divisible,
        geometry=config.geometry,
    )
    rpn = ProposalNetwork(config.rpn, backbone, exact=config.geometry != "torchvision")
    detector = Detector(transform, backbone, rpn, heads, mimic)
    fuse(detector)
    return detector
