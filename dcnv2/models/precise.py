# SPDX-License-Identifier: BSD-3-Clause
"""What stays in float32 under autocast: anchors, and the last layers that predict boxes and scores.

A bfloat16 has eight bits: near 1000 pixels it can only name every fourth. torchvision makes
anchors in the dtype of the features, and boxes from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead

from dcnv2.models.transfer import is_tracing

# Sizes of a batch whose anchors are kept (4 MB each at 800 x 1333).
KEPT_SIZES = 8


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Switch autocast off; meta, where costs are counted, has none."""
    # To ask PyTorch whether a device has it would break a compiled graph.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class PreciseAnchors(AnchorGenerator):
    """torchvision's anchors, in float32 (float64 for such features)."""

    def __init__(self, *operands: Any) -> None:
        super().__init__(*operands)
        self._kept: dict[Any, Tensor] = {}

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors [A, 4] of each image, in pixels of the padded batch."""
        wide = torch.promote_types(feature_maps[0].dtype, torch.float32)
        # Only shape, dtype and device of the maps are looked at.
        shapes = [
            torch.empty((), dtype=wide, device=x.device).expand(1, 1, *x.shape[-2:])
            for x in feature_maps
        ]
        return super().forward(image_list, shapes)

    def of_batch(self, images: ImageList, feature_maps: list[Tensor]) -> Tensor:
        """Anchors [A, 4] of every image, in pixels of the padded batch.

        Those of the last sizes are kept: making them takes a hundred launches.
        """
        first = feature_maps[0]
        key = (
            *(first.device, first.dtype, images.tensors.shape[-2:]),
            *(x.shape[-2:] for x in feature_maps),
        )
        if is_tracing():  # sizes are no numbers then
            return self._of_one(images, feature_maps)
        if key not in self._kept:
            while len(self._kept) >= KEPT_SIZES:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self._of_one(images, feature_maps)
        return self._kept[key]

    def _of_one(self, images: ImageList, feature_maps: list[Tensor]) -> Tensor:
        return self(ImageList(images.tensors, images.image_sizes[:1]), feature_maps)[0]


class ExactAnchors(PreciseAnchors):
    """Anchors that are not rounded, at the strides of the maps, as detectron2 and mmdetection have.

    Args:
        sizes: of each level, in pixels: the root of an anchor's area.
        aspect_ratios: of each level, height over width.
        strides: of each level, in pixels.
    """

    def __init__(
        self,
        sizes: tuple[tuple[int, ...], ...],
        aspect_ratios: tuple[tuple[float, ...], ...],
        strides: list[int],
    ) -> None:
        super().__init__(sizes, aspect_ratios)
        self.strides = strides

    def generate_anchors(self, scales: Sequence[int], aspect_ratios: Sequence[float]) -> Tensor:
        """Anchors [ratios * scales, 4] around 0, in torchvision's order."""
        root = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()[:, None]
        scale = torch.tensor(scales, dtype=torch.float32)
        sides = torch.stack([scale / root, scale * root], dim=-1).flatten(0, 1)
        return torch.cat([-sides, sides], dim=1) / 2

    def grid_anchors(
        self, grid_sizes: list[list[int]], strides: list[list[Tensor]]
    ) -> list[Tensor]:
        """Anchors of each map; the strides given, of padded images to their maps, do not count."""
        exact = [
            [torch.full_like(side, stride) for side in given]
            for given, stride in zip(strides, self.strides, strict=True)
        ]
        return super().grid_anchors(grid_sizes, exact)


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
