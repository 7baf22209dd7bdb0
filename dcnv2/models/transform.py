# SPDX-License-Identifier: BSD-3-Clause
"""Resizing and normalising, with masks left as they are, and the way back to the image's pixels."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from dcnv2.models.config import Geometry
from dcnv2.models.pasting import paste_exactly


class Transform(GeneralizedRCNNTransform):
    """torchvision's transform, except for what targets bring besides boxes.

    Masks keep the size of the image given: mask targets are cropped from them RoI by RoI, so a
    thousand objects are never resized to a thousand masks of the network's input. `mask_ratio`
    [2] then says how many of their pixels (x, y) one pixel of that input is. Boxes in `ignore` are
    resized like `boxes`.

    Args:
        operands: torchvision's.
        geometry: whose rules hold, see `ModelConfig`.
        options: torchvision's.
    """

    def __init__(self, *operands: Any, geometry: Geometry = "torchvision", **options: Any) -> None:
        super().__init__(*operands, **options)
        self.geometry = geometry

    @property
    def exact(self) -> bool:
        """Whether masks are pasted into boxes that are not rounded."""
        return self.geometry != "torchvision"

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
            return self._resize(image, None)
        masks = target.pop("masks", None)
        image, resized = self._resize(image, target)
        assert resized is not None
        new = tuple(image.shape[-2:])
        if masks is not None:
            resized["masks"] = masks
            resized["mask_ratio"] = resized["boxes"].new_tensor([old[1] / new[1], old[0] / new[0]])
        if "ignore" in resized:
            resized["ignore"] = resize_boxes(resized["ignore"], old, new)
        return image, resized

    def _resize(
        self, image: Tensor, target: dict[str, Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resizes an image and its boxes by the rules of `geometry`."""
        if not self.exact:
            return super().resize(image, target)
        old = image.shape[-2:]
        short = self.torch_choice(self.min_size) if self.training else self.min_size[-1]
        scale = min(short / min(old), self.max_size / max(old))
        new = [int(side * scale + 0.5) for side in old]
        antialias = self.geometry == "detectron2"
        image = interpolate(image[None], new, mode="bilinear", antialias=antialias)[0]
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], old, new)
        return image, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections of the network's input, in pixels of the images given; pastes their masks."""
        apart = [found.pop("masks", None) if self.exact else None for found in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        for found, masks, size in zip(result, apart, original_image_sizes, strict=True):
            if masks is not None:
                found["masks"] = masks.new_zeros(len(masks), 1, *size)
                whole = (0, 0, size[1], size[0])
                for plane, (mask,), box in zip(found["masks"], masks, found["boxes"], strict=True):
                    plane[0] = paste_exactly(mask, box, whole)
        return result
