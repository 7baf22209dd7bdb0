# SPDX-License-Identifier: BSD-3-Clause
"""What stays in float32 under autocast: anchors, and the last layers that predict boxes and scores.

A bfloat16 has eight bits: near 1000 pixels it can only name every fourth. torchvision makes
anchors in the dtype of the features, and boxes from them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Switch autocast off; meta, where costs are counted, has none."""
    # To ask PyTorch whether a device has it would break a compiled graph.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class PreciseAnchors(AnchorGenerator):
    """torchvision's anchors, in float32 (float64 for such features)."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors [A, 4] of each image, in pixels of the padded batch."""
        wide = torch.promote_types(feature_maps[0].dtype, torch.float32)
        # Only shape, dtype and device of the maps are looked at.
        shapes = [
            torch.empty((), dtype=wide, device=x.device).expand(1, 1, *x.shape[-2:])
            for x in feature_maps
        ]
        return super().forward(image_list, shapes)


class PreciseRPNHead(RPNHead):
    """torchvision's RPN head, whose two 1x1 convolutions run in float32."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits [N, A, H, W] and box deltas [N, 4 A, H, W] of each map."""
        logits, deltas = [], []
        for feature in x:
            hidden = self.conv(feature)
            with _without_autocast(hidden.device):
                hidden = hidden.to(self.cls_logits.weight.dtype)
                logits.append(self.cls_logits(hidden))
                deltas.append(self.bbox_pred(hidden))
        return logits, deltas


class PreciseBoxPredictor(FastRCNNPredictor):
    """torchvision's predictor of classes and boxes, in float32."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [R, classes] and box deltas [R, 4 classes] of features [R, C]."""
        with _without_autocast(x.device):
            return super().forward(x.to(self.cls_score.weight.dtype))
