# SPDX-License-Identifier: BSD-3-Clause
"""What a batch is trained on: checked by the host, and padded so that no size follows from data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dcnv2.models.mask_targets import ObjectMasks, pack_masks
from dcnv2.models.random_keys import Stream, random_keys, seed_words
from dcnv2.models.transfer import to_device

# Where numbers of objects are rounded up, images have room for at least this many.
LEAST_ROUNDED = 8


@dataclass
class Targets:
    """The objects of N images, padded to G each.

    Attributes:
        boxes: [N, G, 4], (x1, y1, x2, y2) in pixels of the network's input.
        labels: int64 [N, G], from 1.
        present: bool [N, G], which are objects.
        ignored: [N, C, 4], crowd regions, which are neither learned nor background; zeros pad.
        words: int32 [streams, N, 2], see `seed_words`.
        masks: None where they are not learned.
    """

    boxes: Tensor
    labels: Tensor
    present: Tensor
    ignored: Tensor
    words: Tensor
    masks: ObjectMasks | None

    def keys(self, stream: Stream, count: int) -> Tensor:
        """Random numbers, int32 [N, count]."""
        return random_keys(self.words[stream], count)

    def to(self, device: torch.device) -> Targets:
        """Moves everything to a device."""
        return Targets(
            to_device(self.boxes, device),
            to_device(self.labels, device),
            to_device(self.present, device),
            to_device(self.ignored, device),
            to_device(self.words, device),
            None if self.masks is None else self.masks.to(device),
        )


def pack_targets(targets: Sequence[dict[str, Any]], masks: bool, rounded: bool = False) -> Targets:
    """Pads the targets of a batch, where they are.

    Args:
        targets: resized by `Transform`, one of each image, with `seed`.
        masks: whether masks are learned.
        rounded: pad to a power of two, at least `LEAST_ROUNDED`.
    """
    crowds = [_crowd(target) for target in targets]
    objects = [
        {key: target[key] if crowd is None else target[key][~crowd] for key in ("boxes", "labels")}
        for target, crowd in zip(targets, crowds, strict=True)
    ]
    regions = [
        target["boxes"][:0] if crowd is None else target["boxes"][crowd]
        for target, crowd in zip(targets, crowds, strict=True)
    ]
    slots = _slots([len(entry["boxes"]) for entry in objects], 1, rounded)
    boxes, present = _pad([entry["boxes"] for entry in objects], slots)
    labels, _ = _pad([entry["labels"] for entry in objects], slots)
    packed = None
    if masks:
        kept = [
            target["masks"] if crowd is None else target["masks"][~crowd]
            for target, crowd in zip(targets, crowds, strict=True)
        ]
        packed = pack_masks(kept, [target["mask_ratio"] for target in targets], slots)
    words = seed_words([target["seed"] for target in targets])
    ignored, _ = _pad(regions, _slots([len(boxes) for boxes in regions], 0, rounded))
    return Targets(boxes, labels, present, ignored, words, packed)


def _crowd(target: dict[str, Any]) -> Tensor | None:
    """Which entries are crowd regions, bool [K]; None for none."""
    crowd = target.get("iscrowd")
    return None if crowd is None or not crowd.any() else crowd != 0


def _slots(counts: Sequence[int], least: int, rounded: bool) -> int:
    """How many entries every image is padded to, of which none has more than one of `counts`."""
    count = max(least, *counts)
    return max(LEAST_ROUNDED, 1 << (count - 1).bit_length()) if rounded and count else count


def _pad(parts: Sequence[Tensor], slots: int) -> tuple[Tensor, Tensor]:
    """Pads [K_i, ...] to [N, slots, ...]; and which are no padding."""
    padded = parts[0].new_zeros(len(parts), slots, *parts[0].shape[1:])
    valid = torch.zeros(len(parts), slots, dtype=torch.bool, device=padded.device)
    for row, flags, part in zip(padded, valid, parts, strict=True):
        row[: len(part)] = part
        flags[: len(part)] = True
    return padded, valid


def check_targets(
    images: Sequence[Tensor], targets: Sequence[dict[str, Any]] | None, masks: bool
) -> Sequence[dict[str, Any]]:
    """Returns the targets; raises `ValueError` unless each image has one with sound boxes."""
    if targets is None or len(targets) != len(images):
        count = "none" if targets is None else len(targets)
        raise ValueError(f"targets: wanted one for each of {len(images)} images, got {count}")
    for index, target in enumerate(targets):
        boxes, name = target["boxes"], f"target {index}"
        if boxes.ndim != 2 or boxes.shape[-1] != 4:
            raise ValueError(f"boxes of {name}: wanted [K, 4], got {list(boxes.shape)}")
        for key in ("labels", "masks") if masks else ("labels",):
            if key not in target or len(target[key]) != len(boxes):
                count = len(target[key]) if key in target else "none"
                raise ValueError(f"{key} of {name}: wanted {len(boxes)} as boxes, got {count}")
        empty = ~(boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        if empty.any():
            box = int(empty.nonzero()[0])
            name = f"image {int(target['image_id'])}" if "image_id" in target else name
            raise ValueError(f"box {box} of {name} has no area: {boxes[box].tolist()}")
    return targets
