# SPDX-License-Identifier: BSD-3-Clause
"""Boxes (x1, y1, x2, y2) of a whole batch: coding, clipping, overlap.

The formulas, and so the rounding, are those of torchvision's box coder and `box_iou`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Limit of the predicted logarithms of sides, before exp.
MAX_LOG_SCALE = math.log(1000.0 / 16)


def encode(wanted: Tensor, boxes: Tensor, weights: tuple[float, float]) -> Tensor:
    """Regression targets (dx, dy, dw, dh) that turn `boxes` into `wanted`, all [..., 4].

    Args:
        wanted: the objects' boxes.
        boxes: anchors or proposals.
        weights: factors on shifts and on logarithms of scales.
    """
    sides, centres = _sides_and_centres(boxes)
    wanted_sides, wanted_centres = _sides_and_centres(wanted)
    shift = weights[0] * (wanted_centres - centres) / sides
    scale = weights[1] * torch.log(wanted_sides / sides)
    return torch.cat([shift, scale], dim=-1)


def decode(deltas: Tensor, boxes: Tensor, weights: tuple[float, float]) -> Tensor:
    """The boxes that `deltas` make of `boxes`; all [..., 4], in the dtype of the deltas."""
    sides, centres = _sides_and_centres(boxes.to(deltas.dtype))
    shift = deltas[..., :2] / weights[0]
    scale = (deltas[..., 2:] / weights[1]).clamp(max=MAX_LOG_SCALE)
    middle = shift * sides + centres
    half = 0.5 * (scale.exp() * sides)
    return torch.cat([middle - half, middle + half], dim=-1)


def _sides_and_centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides, boxes[..., :2] + 0.5 * sides


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes [N, R, 4] within their images.

    Args:
        boxes: of N images.
        limits: [N, 2], width and height of each image.
    """
    return torch.minimum(boxes.clamp(min=0), limits.to(boxes.dtype).repeat(1, 2)[:, None])


def smaller_than(boxes: Tensor, side: float) -> Tensor:
    """Which boxes [..., 4] have a side below `side`, bool [...]."""
    return ((boxes[..., 2:] - boxes[..., :2]) < side).any(dim=-1)


def area(boxes: Tensor) -> Tensor:
    """[...] of boxes [..., 4]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(first: Tensor, second: Tensor) -> Tensor:
    """Common areas [N, A, B] of boxes [N, A, 4] and [N, B, 4]; either N may be 1."""
    sides = []
    for low, high in ((0, 2), (1, 3)):
        side = torch.minimum(first[..., :, None, high], second[..., None, :, high])
        side -= torch.maximum(first[..., :, None, low], second[..., None, :, low])
        sides.append(side.clamp_(min=0))
    return sides[0].mul_(sides[1])


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union [N, A, B] of boxes [N, A, 4] and [N, B, 4]; either N may be 1."""
    common = intersection(first, second)
    union = (area(first)[..., :, None] + area(second)[..., None, :]).sub(common)
    return common / union


def take(boxes: Tensor, index: Tensor) -> Tensor:
    """Boxes [N, K, 4] of [N, R, 4] at int64 [N, K]."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))
