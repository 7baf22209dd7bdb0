# SPDX-License-Identifier: BSD-3-Clause
"""Augmentations that mix several images of a data set: mosaic and copy-paste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.transforms import PER_OBJECT
from dcnv2.structures import RunLengthMasks

Item = tuple[Tensor, dict[str, Any]]
# Share of the other image's objects that copy-paste takes.
PASTED = 0.5


class _Mix(torch.nn.Module):
    """Mixes an image with others of its data set.

    Args:
        dataset: Where the other images are from.
        probability: Of mixing an image.
    """

    def __init__(self, dataset: DetectionDataset, probability: float) -> None:
        super().__init__()
        self.dataset, self.probability = dataset, probability

    def forward(self, image: Tensor, target: dict[str, Any]) -> Item:
        if torch.rand(()) >= self.probability:
            return image, target
        return self.mix(image, target)

    def mix(self, image: Tensor, target: dict[str, Any]) -> Item:
        raise NotImplementedError

    def other(self) -> Item:
        """Returns a random image of the set with its target, as annotated."""
        index = int(torch.randint(len(self.dataset), ()))
        return tv_tensors.Image(self.dataset.image(index)), self.dataset.target(index)


class Mosaic(_Mix):
    """Four images around a point of a canvas of twice the first one's size.

    The others are resized, with their proportions, to fit into the first one's size. The point is
    random in the middle half of the canvas; what lies beyond the canvas is cut, what no image
    covers is black (Bochkovskiy et al., arXiv 2004.10934).
    """

    def mix(self, image: Tensor, target: dict[str, Any]) -> Item:
        height, width = image.shape[-2:]
        middle = (0.5 + torch.rand(2)) * torch.tensor([height, width])
        y, x = middle.int().tolist()
        pieces = []
        for quadrant in range(4):
            piece = (image, target) if quadrant == 0 else _fitted(self.other(), height, width)
            high, wide = piece[0].shape[-2:]
            top = y if quadrant >= 2 else y - high
            left = x if quadrant % 2 else x - wide
            pieces.append(_placed(piece, top, left, 2 * height, 2 * width))
        canvas = sum(piece for piece, _ in pieces)
        return tv_tensors.Image(canvas), _joined([found for _, found in pieces])


class CopyPaste(_Mix):
    """Objects of another image, cut out by their masks, on top of this one.

    Half of its objects on average, without crowd regions, at their place in that image, which is
    resized to this one's size (Ghiasi et al., arXiv 2012.07177, without their change of scale).
    What they hide is removed from the masks below.
    """

    def mix(self, image: Tensor, target: dict[str, Any]) -> Item:
        other, found = v2.Resize(list(image.shape[-2:]))(*self.other())
        chosen = (torch.rand(len(found["labels"])) < PASTED) & (found["iscrowd"] == 0)
        found = _rows(found, chosen)
        cover = torch.zeros(image.shape[-2:], dtype=torch.bool)
        for mask in found["masks"]:
            cover |= mask.bool()
        masks = _uncovered(target["masks"], cover)
        joined = _joined([{**target, "masks": masks}, found])
        return tv_tensors.Image(torch.where(cover, other, image)), joined


def mixing_transforms(
    dataset: DetectionDataset, mosaic: float, copy_paste: float
) -> list[torch.nn.Module]:
    """Returns the steps with a probability above 0, which go before all other augmentations."""
    steps = [Mosaic(dataset, mosaic), CopyPaste(dataset, copy_paste)]
    return [step for step in steps if step.probability > 0]


def _fitted(item: Item, height: int, width: int) -> Item:
    old = item[0].shape[-2:]
    scale = min(height / old[0], width / old[1])
    size = [max(round(scale * side), 1) for side in old]
    fitted: Item = v2.Resize(size)(*item)
    return fitted


def _placed(item: Item, top: int, left: int, height: int, width: int) -> Item:
    """Returns an item on a black canvas of (height, width), cut at its borders."""

    def place(value: Any) -> Any:
        return v2.functional.crop(value, -top, -left, height, width)

    placed: Item = v2.Lambda(place, tv_tensors.TVTensor)(*item)
    return placed


def _joined(targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the objects of all targets, which are of one size; the rest is the first one's."""
    joined = dict(targets[0])
    for key in PER_OBJECT:
        if key in joined:
            values = [target[key] for target in targets]
            if key == "masks":
                joined[key] = RunLengthMasks.concatenate(values, values[0].size)
            else:
                joined[key] = torch.cat([value.as_subclass(Tensor) for value in values])
            if key == "boxes":
                joined[key] = tv_tensors.wrap(joined[key], like=values[0])
    return joined


def _rows(target: dict[str, Any], keep: Tensor) -> dict[str, Any]:
    chosen = {key: target[key][keep] for key in PER_OBJECT if key in target}
    chosen["boxes"] = tv_tensors.wrap(chosen["boxes"], like=target["boxes"])
    return {**target, **chosen}


def _uncovered(masks: RunLengthMasks, cover: Tensor) -> RunLengthMasks:
    """Returns masks without the pixels of `cover`, bool [H, W]; changed ones refit their boxes."""
    parts = []
    for index, (x1, y1, x2, y2) in enumerate(masks.windows().tolist()):
        part = masks[[index]]
        if cover[y1:y2, x1:x2].any():
            dense = part.dense()
            left = RunLengthMasks.from_dense(dense.bool() & ~cover)
            if not torch.equal(left.runs, part.runs):
                left.refit[:] = True
                part = left
        parts.append(part)
    return RunLengthMasks.concatenate(parts, masks.size)
