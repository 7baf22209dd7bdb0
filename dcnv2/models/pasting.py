# SPDX-License-Identifier: BSD-3-Clause
"""Predicted masks on the pixels of an image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def paste_exactly(mask: Tensor, box: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Samples a mask at the centres of pixels, bilinearly, with zeros around it.

    Args:
        mask: [M, M] in [0, 1], over the box.
        box: [4] (x1, y1, x2, y2) in pixels, of any fraction.
        window: the pixels wanted, (left, top, right, bottom) with exclusive ends.

    Returns:
        [bottom - top, right - left].
    """
    axes = []
    for axis in range(2):
        centres = torch.arange(window[axis], window[axis + 2], device=mask.device) + 0.5
        low, high = box[axis], box[axis + 2]
        # A box of no width has no pixels: infinite places are outside.
        axes.append(((centres - low) / (high - low) * 2 - 1).nan_to_num(-2.0).clamp(-1e4, 1e4))
    x, y = axes
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
    sampled = grid_sample(mask[None, None], grid[None].to(mask.dtype), align_corners=False)
    return sampled[0, 0]


def paste_all(masks: Tensor, boxes: Tensor, size: tuple[int, int], exact: bool) -> Tensor:
    """Samples all masks of an image at once, bilinearly, as products of matrices.

    Args:
        masks: [K, 1, M, M] in [0, 1], each over its box.
        boxes: [K, 4] (x1, y1, x2, y2) in pixels.
        size: height and width of the image.
        exact: sample as `paste_exactly` does, otherwise as torchvision does, which rounds boxes.

    Returns:
        [K, 1, height, width] in the dtype of the masks, without asking the device.
    """
    weights = _exact_weights if exact else _rounded_weights
    side = masks.shape[-1]
    rows = weights(boxes[:, 1].float(), boxes[:, 3].float(), size[0], side)
    columns = weights(boxes[:, 0].float(), boxes[:, 2].float(), size[1], side)
    with torch.autocast(masks.device.type, enabled=False):
        pasted = rows @ masks[:, 0].float() @ columns.transpose(1, 2)
    return pasted[:, None].to(masks.dtype)


def _exact_weights(low: Tensor, high: Tensor, length: int, side: int) -> Tensor:
    """Weights [K, length, side] of a mask's cells at pixels along one axis."""
    centres = torch.arange(length, device=low.device) + 0.5
    position = (centres - low[:, None]) / (high - low)[:, None] * side - 0.5
    # A box of no width has no pixels: infinite places are outside.
    return _tents(position.nan_to_num(-2.0), side)


def _rounded_weights(low: Tensor, high: Tensor, length: int, side: int) -> Tensor:
    """The same for a mask with a border of zeros, stretched over whole pixels."""
    padded = side + 2
    middle, half = (low + high) * 0.5, (high - low) * 0.5 * (padded / side)
    first, last = (middle - half).long(), (middle + half).long()
    pixels = (last - first + 1).clamp(min=1)[:, None]
    place = torch.arange(length, device=low.device) - first[:, None]
    position = (place + 0.5) * (padded / pixels) - 0.5
    weights = _tents(position.clamp(0, padded - 1), padded)[..., 1:-1]
    return weights * ((place >= 0) & (place < pixels))[..., None]


def _tents(position: Tensor, side: int) -> Tensor:
    """Bilinear weights [K, length, side] at positions [K, length] in cells."""
    cells = torch.arange(side, device=position.device, dtype=position.dtype)
    return (1 - (position[..., None] - cells).abs()).clamp(min=0)
