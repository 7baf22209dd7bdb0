# SPDX-License-Identifier: BSD-3-Clause
"""Boxes for the tests of batched_nms, and what torchvision keeps of them."""

import torch
import torchvision
from op_cases import generator


def random_boxes(batch, count, groups=3, dtype=torch.float32, seed=0, whole=False, extent=20):
    """Return boxes, scores and groups, many of which overlap.

    With `whole`, corners and scores are whole numbers, so that overlaps and scores tie.
    """
    random = generator(seed)

    def draw(*size):
        return torch.rand(batch, count, *size, generator=random, dtype=torch.float64)

    corners, scores = draw(2) * extent, draw()
    boxes = torch.cat([corners, corners + draw(2) * 15], 2)
    if whole:
        boxes, scores = boxes.round(), (8 * scores).round()
    return boxes.to(dtype), scores.to(dtype), torch.randint(groups, scores.shape, generator=random)


def kept_by_torchvision(boxes, scores, groups, iou_threshold):
    """Return the kept indices of one image, by torchvision's nms of one group after the other."""
    kept = torch.zeros(len(scores), dtype=torch.bool, device=boxes.device)
    for group in groups.unique():
        index = (groups == group).nonzero().squeeze(1)
        kept[index[torchvision.ops.nms(boxes[index], scores[index], iou_threshold)]] = True
    order = scores.sort(descending=True, stable=True).indices
    return order[kept[order]]
