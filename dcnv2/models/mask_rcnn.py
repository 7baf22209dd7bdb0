# SPDX-License-Identifier: BSD-3-Clause
"""From a configuration to a detector.

Mask R-CNN, Faster R-CNN (no mask head) and proposal networks, with deformable convolutions and
deformable RoI pooling. The DCNv2 paper's form (section 5.1) has the RPN on conv4 and the RoI heads
on conv5, both at stride 16.
"""

from __future__ import annotations

from dcnv2.models.backbone import Backbone, build_backbone, load_imagenet_weights
from dcnv2.models.config import ModelConfig, RPNConfig
from dcnv2.models.detector import Detector, LevelRPN
from dcnv2.models.matching import BoxPairs, ChunkedMatcher
from dcnv2.models.mimic import FeatureMimicking
from dcnv2.models.precise import ExactAnchors, PreciseAnchors, PreciseRPNHead
from dcnv2.models.roi_heads import Conv5, build_roi_heads
from dcnv2.models.transform import Transform


def build_rpn(config: RPNConfig, backbone: Backbone, exact: bool = False) -> LevelRPN:
    """The proposal network; raises `ValueError` where anchor sizes and maps do not pair up.

    Args:
        config: what it is made of.
        backbone: whose maps it sees.
        exact: anchors that are not rounded, at the strides of the maps.
    """
    if len(config.anchor_sizes) != len(backbone.rpn_levels):
        raise ValueError(
            f"rpn.anchor_sizes: wanted a list for each of {', '.join(backbone.rpn_levels)}, "
            f"got {len(config.anchor_sizes)}"
        )
    sizes = tuple(tuple(sizes) for sizes in config.anchor_sizes)
    ratios = (tuple(config.aspect_ratios),) * len(sizes)
    strides = [backbone.strides[level] for level in backbone.rpn_levels]
    anchors = ExactAnchors(sizes, ratios, strides) if exact else PreciseAnchors(sizes, ratios)
    rpn = LevelRPN(
        anchors,
        PreciseRPNHead(backbone.rpn_channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=config.positive_iou,
        bg_iou_thresh=config.negative_iou,
        batch_size_per_image=config.batch_per_image,
        positive_fraction=config.positive_fraction,
        pre_nms_top_n={"training": config.pre_nms_train, "testing": config.pre_nms_test},
        post_nms_top_n={"training": config.post_nms_train, "testing": config.post_nms_test},
        nms_thresh=config.nms,
    )
    rpn.levels = backbone.rpn_levels
    rpn.box_similarity = BoxPairs
    rpn.proposal_matcher = ChunkedMatcher(
        config.positive_iou, config.negative_iou, allow_low_quality_matches=True
    )
    return rpn


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
    rpn = build_rpn(config.rpn, backbone, exact=config.geometry != "torchvision")
    return Detector(transform, backbone, rpn, heads, mimic)
