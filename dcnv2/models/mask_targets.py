# SPDX-License-Identifier: BSD-3-Clause
"""Mask targets of RoIs, cut from tensors or from run lengths without decoding whole images."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

from dcnv2.structures import RunLengthMasks
from dcnv2.structures.masks import ranges, repeated

# Mask pixels that are converted to float at a time (64 MiB).
MASK_CHUNK = 2**24
# Windows are padded to the largest of their group, which has at most this many times their area.
MAX_PADDING = 4
# Up to this many pixels, decoding all masks whole is faster than finding their windows.
FEW_PIXELS = 2**17


def crop_masks(masks: Tensor | RunLengthMasks, boxes: Tensor, index: Tensor, size: int) -> Tensor:
    """Returns the RoIAlign of masks as floats [P, size, size].

    Run lengths give the values of the tensor that they stand for, up to the rounding of the
    corners of RoIs to float32 (2^-14 pixels at 1000). Many RoIs share few objects, so each
    object that is named becomes floats once, `MASK_CHUNK` pixels at a time.

    Args:
        masks: K masks of an image; a tensor is uint8 [K, H, W].
        boxes: RoIs [P, 4] inside the image, (x1, y1, x2, y2) in its pixels.
        index: int64 [P], the mask of each RoI.
        size: Rows and columns of the crops.
    """
    if isinstance(masks, RunLengthMasks):
        if masks.shape.numel() > FEW_PIXELS:
            return _crop_runs(masks, boxes, index, size)
        masks = masks.dense()
    parts = max(MASK_CHUNK // max(masks[:1].numel(), 1), 1)
    crops = []
    for box, chosen in zip(boxes.split(parts), index.split(parts), strict=True):
        objects, which = chosen.unique(return_inverse=True)
        crops.append(_align(masks[objects], box, which, size))
    return torch.cat(crops)


def _crop_runs(masks: RunLengthMasks, boxes: Tensor, index: Tensor, size: int) -> Tensor:
    """Decodes the window of each object that is named, in groups of similar windows."""
    objects, which = index.unique(return_inverse=True)
    masks = masks[objects]
    windows = masks.windows()
    crops = boxes.new_zeros(len(boxes), size, size)
    for group in _groups(windows):
        slot = which.new_full((len(masks),), -1)
        slot[group] = torch.arange(len(group), device=slot.device)
        rois = torch.where(slot[which] >= 0)[0]
        plane = slot[which[rois]]
        corner = windows[group, :2][plane] - 1
        planes = _render(masks[group], windows[group])
        crops[rois] = _align(planes, boxes[rois] - corner.repeat(1, 2), plane, size)
    return crops


def _align(planes: Tensor, boxes: Tensor, plane: Tensor, size: int) -> Tensor:
    """RoIAlign [P, size, size] of planes [U, H, W]; `plane` [P] is the one of each box [P, 4]."""
    rois = torch.cat([plane[:, None].to(boxes), boxes], dim=1)
    return roi_align(planes[:, None].to(boxes), rois, (size, size))[:, 0]


def _groups(windows: Tensor) -> list[Tensor]:
    """Groups windows [U, 4] of similar area, so that each fits `MASK_CHUNK` once padded."""
    sides = windows[:, 2:] - windows[:, :2] + 2
    order = sides.prod(dim=1).argsort()
    groups: list[list[int]] = []
    least = width = height = 0
    for number, (w, h) in zip(order.tolist(), sides[order].tolist(), strict=True):
        wider, higher = max(width, w), max(height, h)
        padded = wider * higher
        fits = groups and (len(groups[-1]) + 1) * padded <= MASK_CHUNK
        if fits and padded <= MAX_PADDING * least:
            groups[-1].append(number)
            width, height = wider, higher
        else:
            groups.append([number])
            least, width, height = w * h, w, h
    return [torch.tensor(group, device=windows.device) for group in groups]


def _render(masks: RunLengthMasks, windows: Tensor) -> Tensor:
    """Returns the masks in their windows with a border of one pixel, int8 [U, height, width].

    The border is zero, but beyond the right and the lower end of the image it repeats the last
    pixels, as RoIAlign does.
    """
    column, top, bottom = masks.runs.long().unbind(1)
    height, width = masks.size
    copies = 1 + (column == width - 1).long()
    run = repeated(copies)
    column = ranges(column, copies)
    top, bottom, owner = top[run], bottom[run] + (bottom[run] == height).long(), masks.owner[run]

    sides = (windows[:, 2:] - windows[:, :2]).amax(dim=0) + 2
    corner = windows[:, :2][owner] - 1
    shape = len(masks), int(sides[0]), int(sides[1]) + 1
    change = torch.zeros(shape, dtype=torch.int8, device=masks.device)
    ones = change.new_ones(()).expand(len(owner))
    for row, sign in ((top, ones), (bottom, -ones)):
        place = owner, column - corner[:, 0], row - corner[:, 1]
        change.index_put_(place, sign, accumulate=True)
    planes = change[..., :-1].cumsum(dim=2, dtype=torch.int8)
    return planes.transpose(1, 2).contiguous()
