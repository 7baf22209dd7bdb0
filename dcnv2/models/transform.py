# SPDX-License-Identifier: BSD-3-Clause
"""Resizing and normalising, with masks left as they are, and the way back to the image's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from dcnv2.models.config import Geometry
from dcnv2.models.pasting import paste_all
from dcnv2.models.random_keys import Stream, hash_seed
from dcnv2.models.transfer import is_tracing, to_device


class ImageBatch(ImageList):
    """A padded batch [N, 3, H, W] and the size (height, width) of each image in it.

    Attributes:
        limits: float32 [N, 2], width and height of each image, on the device.
    """

    def __init__(self, tensors: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        super().__init__(tensors, image_sizes)
        if is_tracing():  # sizes are tensors, which have to stay in the graph
            sides = [torch.stack([torch.as_tensor(w), torch.as_tensor(h)]) for h, w in image_sizes]
            self.limits = torch.stack(sides).float()
        else:
            limits = torch.tensor([[w, h] for h, w in image_sizes], dtype=torch.float32)
            self.limits = to_device(limits, tensors.device)


class Transform(GeneralizedRCNNTransform):
    """torchvision's transform, except for what targets bring besides boxes.

    Masks keep the size of the image given: mask targets are cropped from them RoI by RoI, so a
    thousand objects are never resized to a thousand masks of the network's input. `mask_ratio`
    then says how many of their pixels (x, y) one pixel of that input is. Bytes become floats on the
    device. Of several sizes, the `seed` of a target chooses the one of its image in training.

    Args:
        operands: torchvision's.
        geometry: whose rules hold, see `ModelConfig`.
        options: torchvision's.
    """

    def __init__(self, *operands: Any, geometry: Geometry = "torchvision", **options: Any) -> None:
        super().__init__(*operands, **options)
        self.geometry = geometry
        for name in ("mean", "std"):
            value = torch.tensor(getattr(self, f"image_{name}"), dtype=torch.float32)
            self.register_buffer(name, value[:, None, None], persistent=False)
        self._seed = 0

    @property
    def exact(self) -> bool:
        """Whether masks are pasted into boxes that are not rounded."""
        return self.geometry != "torchvision"

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Any]] | None = None
    ) -> tuple[ImageBatch, list[dict[str, Any]] | None]:
        """Normalises, resizes and pads a batch.

        Args:
            images: [3, H, W], bytes or floats in [0, 1], on the device.
            targets: of each image, with `seed`.
        """
        batch, resized = super().forward(images, targets)
        return ImageBatch(batch.tensors, batch.image_sizes), resized

    def normalize(self, image: Tensor) -> Tensor:
        """Normalises an image [3, H, W], bytes or floats in [0, 1]."""
        if not image.is_floating_point():
            image = image.to(self.mean.dtype) / 255
        return (image - self.mean.to(image.dtype)) / self.std.to(image.dtype)

    def torch_choice(self, sizes: Sequence[int]) -> int:
        """One of the sizes of training, by the seed of the image."""
        return sizes[hash_seed(self._seed, Stream.SCALE) % len(sizes)]

    def resize(
        self, image: Tensor, target: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any] | None]:
        """Resizes an image [3, H, W] and its target."""
        self._seed = 0 if target is None else target.get("seed", 0)
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
            resized["mask_ratio"] = (old[1] / new[1], old[0] / new[0])
        return image, resized

    def _resize(
        self, image: Tensor, target: dict[str, Any] | None
    ) -> tuple[Tensor, dict[str, Any] | None]:
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
        if self.exact or not (is_tracing() or result[0]["boxes"].device.type == "cpu"):
            for found, old, new in zip(result, image_shapes, original_image_sizes, strict=True):
                found["boxes"] = _resized(found["boxes"], old, new)
                if "masks" in found:
                    found["masks"] = paste_all(found["masks"], found["boxes"], new, self.exact)
            return result
        # On a CPU torchvision's windows, mask by mask, are faster than whole planes.
        return super().postprocess(result, image_shapes, original_image_sizes)


def _resized(boxes: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Boxes [K, 4] in an image of another (height, width), rounded as by `resize_boxes`."""
    if is_tracing():
        return resize_boxes(boxes, old, new)
    y, x = (torch.tensor(n).float().div(o).item() for n, o in zip(new, old, strict=True))
    corners = boxes.unflatten(1, (2, 2))
    return torch.stack([corners[..., 0] * x, corners[..., 1] * y], dim=2).flatten(1)
