# SPDX-License-Identifier: BSD-3-Clause
"""Resizing and normalising, with masks left as they are."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes


class Transform(GeneralizedRCNNTransform):
    """torchvision's transform, except for what targets bring besides boxes.

    Masks keep the size of the image given: mask targets are cropped from them RoI by RoI, so a
    thousand objects are never resized to a thousand masks of the network's input. `mask_ratio`
    [2] then says how many of their pixels (x, y) one pixel of that input is. Boxes in `ignore` are
    resized like `boxes`.
    """

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resizes an image [3, H, W] and its target."""
        old = tuple(image.shape[-2:])
        # Where the longer side shrinks to `max_size`, a pixel of the shorter one has to remain.
        least = max(old) // self.max_size + 1
        wide = tuple(max(side, least) for side in old)
        if wide != old:
            image = interpolate(image[None], wide, mode="bilinear")[0]
            if target is not None:
                target["boxes"] = resize_boxes(target["boxes"], old, wide)
        if target is None:
            return super().resize(image, None)
        masks = target.pop("masks", None)
        image, target = super().resize(image, target)
        new = tuple(image.shape[-2:])
        if masks is not None:
            target["masks"] = masks
            target["mask_ratio"] = target["boxes"].new_tensor([old[1] / new[1], old[0] / new[0]])
        if "ignore" in target:
            target["ignore"] = resize_boxes(target["ignore"], old, new)
        return image, target
