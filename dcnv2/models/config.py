# SPDX-License-Identifier: BSD-3-Clause
"""The configuration of a detector as plain dataclasses; this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ConvKind = Literal["plain", "dcnv1", "dcnv2"]
NormKind = Literal["group", "frozen", "batch", "sync"]
PoolKind = Literal["align", "dpool", "mdpool", "dpsroi", "mdpsroi"]
Topology = Literal["c4", "c5", "fpn"]
Arch = Literal[
    "resnet50", "resnet101", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d", "small"
]
Geometry = Literal["torchvision", "detectron2", "mmdetection"]


@dataclass
class BackboneConfig:
    """The convolutional body and its neck.

    Attributes:
        arch: `small` is a four-stage GroupNorm net with one stride-8 map, for training on a CPU.
        convs: kind of the 3x3 convolutions in conv2, conv3, conv4 and conv5.
        norm: `group` has 32 groups; `frozen` keeps statistics and affine as loaded.
        topology: `c4` has RPN and pooling on conv4, and conv5 in the RoI heads; `c5` dilates conv5
            at stride 16 and reduces it 1x1 (RPN on conv4, RoI heads on conv5); `fpn` is the feature
            pyramid. Ignored by `small`.
        channels: width of the maps that the RoI heads see.
        stride_in_1x1: stride in the first 1x1 convolution (the original ResNet) instead of the 3x3
            (torchvision's weights).
        freeze_at: number of leading stages (stem, conv2, ..., conv5) that are not trained.
        deform_groups: number of offset groups in each deformable convolution.
        mask_scale: factor on the sigmoid of the modulation: 1.0 as in the paper (it starts at
            0.5), 2.0 as in the authors' released example (a converted net is unchanged at first).
        max_offset: soft limit of the offsets in pixels, None for no limit.
        weights: ImageNet weights: a file (`.safetensors`, `.pth`), or one of torchvision's names
            for the arch, such as `IMAGENET1K_V1`.
    """

    arch: Arch = "resnet50"
    convs: tuple[ConvKind, ConvKind, ConvKind, ConvKind] = ("plain", "plain", "plain", "plain")
    norm: NormKind = "frozen"
    topology: Topology = "c5"
    channels: int = 256
    stride_in_1x1: bool = False
    freeze_at: int = 0
    deform_groups: int = 1
    mask_scale: float = 1.0
    max_offset: float | None = None
    weights: str | None = None


@dataclass
class RPNConfig:
    """Region proposals; `anchor_sizes` has one list per level, in pixels of the resized image."""

    anchor_sizes: list[list[int]] = field(default_factory=lambda: [[32, 64, 128, 256, 512]])
    aspect_ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    pre_nms_train: int = 2000
    pre_nms_test: int = 1000
    post_nms_train: int = 2000
    post_nms_test: int = 1000
    nms: float = 0.7
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    batch_per_image: int = 256
    positive_fraction: float = 0.5


@dataclass
class PoolConfig:
    """RoI pooling.

    Attributes:
        kind: RoIAlign, deformable pooling (DCNv1) or modulated deformable pooling (DCNv2), with
            centred samples, or in the authors' convention (`dpsroi`, `mdpsroi`).
        sampling_ratio: samples per bin and axis; 0 adapts to the RoI's size (not in the authors'
            convention).
        gamma: factor on the predicted offsets (in units of the RoI's width and height).
        hidden_channels: width of the two fc layers that predict offsets and modulation; 0 omits
            them, as in DCNv1.
        aligned: shift samples by half a pixel; False is torchvision's default RoIAlign.
    """

    kind: PoolKind = "align"
    sampling_ratio: int = 2
    gamma: float = 0.1
    hidden_channels: int = 1024
    aligned: bool = True


@dataclass
class OHEMConfig:
    """Online hard example mining in the box head.

    Attributes:
        kind: `batch` keeps the `keep` RoIs of the batch with the highest classification loss, for
            that loss only; `image` keeps those of each image with the highest sum of both losses,
            for both.
        keep: number of RoIs to keep.
    """

    kind: Literal["none", "batch", "image"] = "none"
    keep: int = 256


@dataclass
class BoxHeadConfig:
    """Classification and box regression: pooling to 7x7, two fc layers with ReLU, predictor.

    Attributes:
        convs: 3x3 convolutions before a single fc layer instead of two fc layers.
        norm: norm of these convolutions.
    """

    pool: PoolConfig = field(default_factory=PoolConfig)
    pool_size: int = 7
    convs: tuple[int, ...] = ()
    norm: NormKind | None = None
    hidden_channels: int = 1024
    positive_iou: float = 0.5
    batch_per_image: int = 512
    positive_fraction: float = 0.25
    score_threshold: float = 0.05
    nms: float = 0.5
    detections_per_image: int = 100
    smooth_l1_beta: float = 1 / 9
    ohem: OHEMConfig = field(default_factory=OHEMConfig)


@dataclass
class MaskHeadConfig:
    """Mask branch: pooling to 14x14, 3x3 convolutions, a deconvolution to 28x28, logits.

    With the `c4` topology conv5 replaces `convs`, and masks are 14x14; `shared` then reuses the box
    head's conv5 and pooling.
    """

    enabled: bool = True
    pool: PoolConfig = field(default_factory=PoolConfig)
    pool_size: int = 14
    convs: tuple[int, ...] = (256, 256, 256, 256)
    norm: NormKind | None = None
    deconv_channels: int = 256
    shared: bool = False


@dataclass
class MimicConfig:
    """R-CNN feature mimicking, training only.

    The paper does not specify every choice; the defaults are the simplest reading.

    Attributes:
        boxes_per_image: number of positive proposals that are sampled.
        crop_size: side of the resized patches; the paper's 224 gives 14x14 maps at stride 16.
        min_side: proposals with a shorter side, in pixels of the network's input, are skipped:
            patches of a few pixels do not show their class.
        stop_gradient: no gradient of the cosine term into the features of the patch (`rcnn`) or of
            the box in its image (`frcnn`). The paper trains both jointly: by default neither.
        normalise: the sum over boxes is divided by their number (`box`), by that of the images or
            by 1. The paper writes the sum; the mean goes with its cross-entropy term, and lets the
            weight 0.1 mean the same for any number of boxes.
    """

    enabled: bool = False
    boxes_per_image: int = 32
    crop_size: int = 224
    min_side: float = 1.0
    stop_gradient: Literal["none", "rcnn", "frcnn"] = "none"
    normalise: Literal["box", "image", "none"] = "box"


@dataclass
class ModelConfig:
    """A whole detector.

    Attributes:
        task: `detection` has the box head and, if enabled, the mask head; `proposals` has only the
            RPN.
        num_classes: number of object classes, without background.
        min_size: shorter side of the resized image; with several values, training draws one per
            image and test uses the last.
        max_size: limit of the longer side.
        size_divisible: batches are padded at the right and at the bottom to a multiple of this.
        geometry: whose rules hold where projects round differently. `torchvision` rounds the sides
            of resized images down, anchors to whole pixels and boxes that masks are pasted into;
            the stride of the coarsest anchors is that of the padded image to its map.
            `detectron2` and `mmdetection` round the sides to the nearest pixel, and nothing else;
            `detectron2` also shrinks images with antialiasing.
        image_mean: subtracted from RGB in [0, 1].
        image_std: divides RGB in [0, 1].
    """

    task: Literal["detection", "proposals"] = "detection"
    num_classes: int = 80
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    box: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    mask: MaskHeadConfig = field(default_factory=MaskHeadConfig)
    mimic: MimicConfig = field(default_factory=MimicConfig)
    min_size: list[int] = field(default_factory=lambda: [800])
    max_size: int = 1333
    size_divisible: int = 32
    geometry: Geometry = "torchvision"
    image_mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    image_std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
