# SPDX-License-Identifier: BSD-3-Clause
"""Predicted masks on the pixels of an image, without rounding their boxes."""

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
