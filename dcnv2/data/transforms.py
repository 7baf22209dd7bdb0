# SPDX-License-Identifier: BSD-3-Clause
"""Pipelines of torchvision.transforms.v2 for training and evaluation.

They make plain tensors of images and targets. Images stay bytes, a quarter of what floats would
take on the way to the GPU; the detector scales, resizes and normalises them there.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

PER_OBJECT = ("boxes", "labels", "masks", "area", "iscrowd")
"""Entries of a target with one row per object."""


class DropEmptyObjects(torch.nn.Module):
    """Clips boxes to the image, and drops objects that have no area or mask after a crop or warp.

    What a transform turned or cut gets the box of its mask: a turned box is larger than the turned
    object, and of a cut object less may be left than of its box.

    Args:
        min_side: Least width and height of a box that is kept, in pixels.
    """

    def __init__(self, min_side: float = 1e-2) -> None:
        super().__init__()
        self.min_side = min_side

    def forward(
        self, image: torch.Tensor, target: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        boxes = v2.functional.clamp_bounding_boxes(target["boxes"])
        keep = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_side).all(dim=1)
        if "masks" in target:
            masks = target["masks"]
            keep = keep & ~masks.empty()
            if masks.refit.any():
                fitted = torch.where(masks.refit[:, None], masks.windows().to(boxes), boxes)
                boxes = tv_tensors.wrap(fitted, like=boxes)
        target = {**target, "boxes": boxes}
        if keep.all():
            return image, target
        for key in PER_OBJECT:
            if key in target:
                kept = target[key][keep]
                target[key] = tv_tensors.wrap(kept, like=boxes) if key == "boxes" else kept
        return image, target


class _Augmentation(torch.nn.Module):
    """Names a configured transform in its errors, such as a crop larger than the image.

    What it returns must still be an image with boxes as corners, or the steps after it would fail
    without its name, or leave the boxes where they are while they move the image.
    """

    def __init__(self, transform: torch.nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, image: torch.Tensor, target: dict[str, Any]) -> Any:
        try:
            result = self.transform(image, target)
            _check_result(result)
            return result
        except Exception as error:  # torchvision raises IndexError, KeyError, ... too
            name, where = type(self.transform).__name__, target.get("image_id", "")
            what = str(error) or type(error).__name__
            raise ValueError(f"data.augment: {name}: image {where}: {what}") from error


def _check_result(result: Any) -> None:
    """Raises TypeError unless an augmentation returned an image and a target as it got them."""
    image, target = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(image, tv_tensors.Image) or image.ndim != 3 or len(image) not in (1, 3):
        raise TypeError(f"gives no image [3, H, W] but {_kind(image)}")
    boxes = target.get("boxes") if isinstance(target, Mapping) else None
    if not isinstance(boxes, tv_tensors.BoundingBoxes):
        raise TypeError(f"gives no bounding boxes but {_kind(boxes)}")
    if boxes.format != tv_tensors.BoundingBoxFormat.XYXY:
        raise TypeError(f"gives boxes as {boxes.format.value}, wanted XYXY")


def _kind(value: Any) -> str:
    shape = f" {list(value.shape)}" if isinstance(value, torch.Tensor) else ""
    return f"{type(value).__name__}{shape}"


class ToPlain(torch.nn.Module):
    """Makes plain tensors of an image and of boxes.

    An image that an augmentation made no bytes of becomes floats in [0, 1].
    """

    def forward(
        self, image: torch.Tensor, target: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        if image.dtype != torch.uint8:
            image = v2.functional.to_dtype(image, torch.float32, scale=True)
        plain = {
            key: value.as_subclass(torch.Tensor) if isinstance(value, torch.Tensor) else value
            for key, value in target.items()
        }
        return image.as_subclass(torch.Tensor), plain


def train_transforms(
    flip: float = 0.5, augment: Sequence[str | Mapping[str, Any]] = ()
) -> v2.Compose:
    """Returns the pipeline for training.

    Args:
        flip: Probability of a horizontal flip.
        augment: Further transforms of torchvision.transforms.v2, applied before the flip: each a
            name, or {name: {argument: value}}.

    Raises:
        ValueError: An unknown name (the message suggests the nearest), or invalid arguments.
    """
    steps: list[torch.nn.Module] = [_Augmentation(_named(entry)) for entry in augment]
    if flip > 0:
        steps.append(v2.RandomHorizontalFlip(flip))
    return v2.Compose([*steps, DropEmptyObjects(), ToPlain()])


def eval_transforms() -> v2.Compose:
    """Returns the pipeline for evaluation, which keeps all objects."""
    return v2.Compose([ToPlain()])


def _named(entry: str | Mapping[str, Any]) -> torch.nn.Module:
    if isinstance(entry, str):
        entry = {entry: {}}
    if len(entry) != 1:
        raise ValueError(f"data.augment: wanted one name with its arguments, got {dict(entry)}")
    ((name, arguments),) = entry.items()
    kind = getattr(v2, name, None)
    if not (isinstance(kind, type) and issubclass(kind, v2.Transform)):
        near = difflib.get_close_matches(name, dir(v2), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"data.augment: torchvision.transforms.v2 has no {name}{hint}")
    try:
        arguments = dict(arguments or {})
        if isinstance(nested := arguments.get("transforms"), list):  # RandomApply, RandomChoice
            arguments["transforms"] = [_named(entry) for entry in nested]
        if "fill" in arguments:  # colours the image; boxes and masks have no colour
            arguments["fill"] = {tv_tensors.Image: arguments["fill"], "others": 0}
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data.augment: {name}: {error}") from None
