# SPDX-License-Identifier: BSD-3-Clause
"""RoI pooling over one or several maps, and what the heads on top of it are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from dcnv2.models.backbone import Backbone
from dcnv2.models.box_mask_heads import BoxMaskHeads
from dcnv2.models.config import BackboneConfig, ModelConfig, PoolConfig
from dcnv2.models.layers import make_pool, norm_layer
from dcnv2.models.precise import PreciseBoxPredictor
from dcnv2.models.resnet import make_stage, stage_channels
from dcnv2.ops import fpn_levels, multiscale_roi_align
from dcnv2.ops.functional import join_boxes


class RoIPooler(nn.Module):
    """Pools every RoI from the map that fits its size (FPN's rule), by RoIAlign or deformably.

    RoIAlign takes all maps at once. For deformable pooling each map has a layer of its own, since
    the branch that predicts offsets sees features of that map only.
    """

    def __init__(self, backbone: Backbone, config: PoolConfig, output_size: int) -> None:
        super().__init__()
        self.levels, self.output_size, self.config = backbone.roi_levels, output_size, config
        self.scales = [1.0 / backbone.strides[level] for level in self.levels]
        self.pools = nn.ModuleList()
        if config.kind != "align":
            self.pools.extend(
                make_pool(config, backbone.out_channels, output_size, scale)
                for scale in self.scales
            )

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor] | Tensor) -> Tensor:
        """Pools the boxes of a batch.

        Args:
            features: maps [N, C, H, W] by name.
            boxes: one [R_i, 4] an image, (x1, y1, x2, y2) in pixels of the padded batch; or all in
                one [R, 5], after the number of the image, which costs no loop over images.

        Returns:
            [sum R_i, C, size, size] in the order of the boxes.
        """
        rois = join_boxes(boxes)
        maps = [features[level] for level in self.levels]
        if not self.pools:
            ratio, aligned = self.config.sampling_ratio, self.config.aligned
            return multiscale_roi_align(maps, rois, self.scales, self.output_size, ratio, aligned)
        if len(self.pools) == 1:
            return self.pools[0](maps[0], rois)
        level_of = fpn_levels(rois[:, 1:], self.scales)
        order, pooled = [], []
        for level, (x, pool) in enumerate(zip(maps, self.pools, strict=True)):
            chosen = torch.where(level_of == level)[0]
            order.append(chosen)
            pooled.append(pool(x, rois[chosen]))
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
