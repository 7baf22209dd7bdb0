# SPDX-License-Identifier: BSD-3-Clause
"""Mask targets of RoIs, cut from tensors or from run lengths without decoding whole images.

The host packs the masks of a batch, whose sizes it knows; the device decodes and crops them without
any question to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from dcnv2.models.transfer import to_device
from dcnv2.structures import RunLengthMasks
from dcnv2.structures.masks import expand_ranges

# Mask pixels that are converted to float at a time (64 MiB).
MASK_CHUNK = 2**24
# Windows are padded to the largest of their group, which has at most this many times their area.
MAX_PADDING = 4


@dataclass
class Planes:
    """Masks that are decoded together, each in a window of one size.

    Attributes:
        plane: int64 [O], the plane of each object of the batch, or -1.
        corner: float32 [O, 2], the pixel (x, y) of an object's mask at its window's corner.
    """

    plane: Tensor
    corner: Tensor

    def render(self) -> Tensor:
        """The planes, integers [U, height, width]."""
        raise NotImplementedError

    def to(self, device: torch.device) -> Planes:
        """Moves the tensors to a device."""
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        return type(self)(**{**vars(self), **{k: to_device(v, device) for k, v in tensors.items()}})


@dataclass
class DensePlanes(Planes):
    """Whole masks, uint8 [U, H, W]."""

    masks: Tensor

    def render(self) -> Tensor:
        return self.masks


@dataclass
class RunPlanes(Planes):
    """Windows of run lengths.

    Attributes:
        shape: (U, width, height + 1) of the planes' steps down the columns.
        position: int64 [E], where a run begins or ends, in that shape.
        step: int8 [E], 1 where it begins, -1 where it ends.
    """

    shape: tuple[int, int, int]
    position: Tensor
    step: Tensor

    def render(self) -> Tensor:
        steps = torch.zeros(self.shape, dtype=torch.int8, device=self.step.device)
        # Runs of one mask may touch, so that one ends where another begins.
        steps.view(-1).index_add_(0, self.position, self.step)
        return steps[..., :-1].cumsum(dim=2, dtype=torch.int8).transpose(1, 2).contiguous()


@dataclass
class ObjectMasks:
    """The masks of a batch's objects.

    Attributes:
        planes: a mask is in one of them.
        ratio: float32 [N, 2], how many of an image's mask pixels (x, y) a pixel of the network's
            input is.
    """

    planes: list[Planes]
    ratio: Tensor

    def to(self, device: torch.device) -> ObjectMasks:
        """Moves the masks to a device."""
        moved = [planes.to(device) for planes in self.planes]
        return ObjectMasks(moved, to_device(self.ratio, device))

    def crop(self, boxes: Tensor, image: Tensor, matched: Tensor, size: int) -> Tensor:
        """Returns the RoIAlign of masks as floats [P, size, size].

        Run lengths give the values of the tensor that they stand for, up to the rounding of the
        corners of RoIs to float32 (2^-14 pixels at 1000). Many RoIs share few objects, so each
        object becomes floats once, `MASK_CHUNK` pixels at a time.

        Args:
            boxes: RoIs [P, 4] inside their images, (x1, y1, x2, y2) in pixels of the network's
                input.
            image: int64 [P], the image of each RoI.
            matched: int64 [P], its object, numbered over the batch.
            size: rows and columns of the crops.
        """
        boxes = boxes * self.ratio[image].to(boxes.dtype).repeat(1, 2)
        crops = boxes.new_zeros(len(boxes), size, size)
        for planes in self.planes:
            plane = planes.plane[matched]
            here = plane >= 0
            window = boxes - planes.corner[matched].to(boxes.dtype).repeat(1, 2)
            # A RoI whose mask is elsewhere costs one sample a bin.
            rois = torch.cat([plane[:, None].to(boxes.dtype), window], dim=1) * here[:, None]
            crop = roi_align(planes.render()[:, None].to(boxes.dtype), rois, (size, size))[:, 0]
            crops = crop.where(here[:, None, None], crops)
        return crops


def pack_masks(
    masks: Sequence[Tensor | RunLengthMasks], ratio: Sequence[Sequence[float]], slots: int
) -> ObjectMasks:
    """Packs the masks of a batch, where they are.

    Args:
        masks: K_i masks of each image; a tensor is uint8 [K_i, H, W].
        ratio: (x, y) of each image, see `ObjectMasks`.
        slots: number of objects that every image is padded to; object k of image i has the number
            i * slots + k.
    """
    objects = slots * len(masks)
    planes: list[Planes] = []
    runs: list[tuple[int, RunLengthMasks]] = []
    for image, of_image in enumerate(masks):
        if isinstance(of_image, RunLengthMasks):
            runs.append((image * slots, of_image))
        elif len(of_image):
            planes += _dense_planes(of_image, image * slots, objects)
    if runs:
        planes += _run_planes(runs, objects)
    return ObjectMasks(planes, torch.tensor(ratio, dtype=torch.float32).reshape(-1, 2))


def _dense_planes(masks: Tensor, first: int, objects: int) -> list[Planes]:
    """Planes of one image, whose first object has the number `first`."""
    planes: list[Planes] = []
    chunk = max(MASK_CHUNK // max(masks[0].numel(), 1), 1)
    for part in masks.split(chunk):
        plane = torch.full((objects,), -1)
        plane[first : first + len(part)] = torch.arange(len(part))
        planes.append(DensePlanes(plane, torch.zeros(objects, 2), part))
        first += len(part)
    return planes


def _run_planes(runs: Sequence[tuple[int, RunLengthMasks]], objects: int) -> list[Planes]:
    """Planes of windows, in groups of similar size; of masks and the number of their first."""
    every = RunLengthMasks.concatenate([masks.to("cpu") for _, masks in runs], (0, 0))
    number = np.concatenate([np.arange(len(masks)) + first for first, masks in runs])
    limits = np.repeat([masks.size for _, masks in runs], [len(masks) for _, masks in runs], axis=0)
    windows = every.windows().numpy()
    groups = _groups(windows)
    if not groups:
        return []
    # From here on in the order of the groups.
    order = np.concatenate(groups)
    corner, (height, width) = windows[order, :2] - 1, limits[order].T
    begins = every.first.numpy()
    owner, rows = expand_ranges(begins[order], np.diff(begins)[order])
    column, top, bottom = every.runs.numpy()[rows].T.astype(np.int64)
    # A window has a border of zeros one pixel wide. But beyond the right and the lower end of the
    # image it repeats the last pixels, as RoIAlign does.
    run, column = expand_ranges(column, 1 + (column == width[owner] - 1))
    top, bottom, owner = top[run], bottom[run], owner[run]
    bottom = bottom + (bottom == height[owner])
    left, upper = corner[owner].T
    column, top, bottom = column - left, top - upper, bottom - upper
    planes: list[Planes] = []
    first = 0  # of the group's objects
    for group in groups:
        last = first + len(group)
        sides = (windows[group, 2:] - windows[group, :2] + 2).max(axis=0)
        shape = (len(group), int(sides[0]), int(sides[1]) + 1)
        low, high = np.searchsorted(owner, [first, last])
        begin = ((owner[low:high] - first) * shape[1] + column[low:high]) * shape[2]
        plane, place = np.full(objects, -1), np.zeros((objects, 2), np.float32)
        plane[number[group]] = np.arange(len(group))
        place[number[group]] = corner[first:last]
        position = np.concatenate([begin + top[low:high], begin + bottom[low:high]])
        step = np.repeat(np.array([1, -1], np.int8), high - low)
        planes.append(
            RunPlanes(
                plane=torch.from_numpy(plane),
                corner=torch.from_numpy(place),
                shape=shape,
                position=torch.from_numpy(position),
                step=torch.from_numpy(step),
            )
        )
        first = last
    return planes


def _groups(windows: np.ndarray) -> list[np.ndarray]:
    """Groups windows [U, 4] of similar area, so that each fits `MASK_CHUNK` once padded."""
    sides = windows[:, 2:] - windows[:, :2] + 2
    order = sides.prod(axis=1).argsort(kind="stable")
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
    return [np.array(group) for group in groups]
