# SPDX-License-Identifier: BSD-3-Clause
"""What every reader but COCO's returns: images with objects in pixels, to become a Table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from dcnv2.data.annotations import (
    Annotation,
    DataProblem,
    Fault,
    Table,
    TableBuilder,
    box_fault,
)
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.images import probe_all
from dcnv2.data.polygons import finite
from dcnv2.data.segmentation import box_code, encode

Segmentations = dict[int, Any]
"""COCO segmentations as annotated, by annotation id."""


@dataclass
class ObjectRecord:
    """One object.

    Attributes:
        where: its place in its file, such as `line 3`; for messages.
        name: its class.
        box: x, y, width, height in pixels; None takes the bounds of the polygons.
        segmentation: as in COCO: polygons, or run lengths; None if there is none.
        crowd: whether it is a region to ignore.
        number: reported as the annotation's id.
    """

    where: str
    name: str
    box: tuple[float, float, float, float] | None
    segmentation: Any = None
    crowd: bool = False
    number: int | None = None


@dataclass
class ImageRecord:
    """One image: its file, width and height as annotated, and its objects.

    `where` names it in messages; `image_id` None numbers it by its place.
    """

    file: Path
    where: str
    size: tuple[int, int]
    objects: list[ObjectRecord]
    image_id: int | None = None


@dataclass
class Split:
    """A split as read from its files.

    Attributes:
        names: classes in label order.
        images: in the order in which they are served.
        source: file or folder, for messages.
        problems: what could not be read.
        notes: what is no problem but worth knowing.
        category_ids: ids of the classes; None numbers them from 1.
    """

    names: Sequence[str]
    images: list[ImageRecord]
    source: str
    problems: list[DataProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    category_ids: list[int] | None = None


class RecordDataset(DetectionDataset):
    """A split in any format but COCO's. See `DetectionDataset` for items, and `CocoDataset`.

    Args:
        split: The records.
        transforms: Called as `transforms(image, target)`.
        crowd: Include regions to ignore, flagged by `iscrowd`.
        masks: Include masks. None reads those that there are, for conversion.
        on_bad: "raise" rejects a data set with problems, "skip" skips and counts them.
        decode: Decode every image when checking.
        segmentations: Receives the sound segmentations as annotated.

    Raises:
        BadDataError: Problems were found and `on_bad` is "raise".
    """

    def __init__(
        self,
        split: Split,
        transforms: Callable[..., Any] | None = None,
        *,
        crowd: bool = False,
        masks: bool | None = True,
        on_bad: str = "raise",
        decode: bool = False,
        segmentations: Segmentations | None = None,
    ) -> None:
        table, problems = build(split, masks, decode, segmentations)
        super().__init__(table, problems, split.source, transforms, crowd, bool(masks), on_bad)
        self.notes = list(split.notes)


def build(
    split: Split, masks: bool | None, decode: bool, segmentations: Segmentations | None = None
) -> tuple[Table, list[DataProblem]]:
    """Checks records and their image files; see `RecordDataset`.

    Returns:
        The table of what is valid, and the problems of the rest.
    """
    problems = list(split.problems)
    labels = {name: label for label, name in enumerate(split.names, start=1)}
    ids = split.category_ids or list(range(1, len(labels) + 1))
    builder = TableBuilder(ids, list(split.names))
    errors = probe_all([(image.file, image.size) for image in split.images], decode)
    owners: dict[Path, str] = {}
    number = 0
    for place, (image, error) in enumerate(zip(split.images, errors, strict=True), start=1):
        image_id = place if image.image_id is None else image.image_id
        if error is not None:
            problems.append(DataProblem(error.kind, image.where, str(error), image_id))
            continue
        owner = owners.setdefault(image.file, image.where)
        if owner != image.where:
            what = f"its picture {image.file} is that of {owner}"
            problems.append(DataProblem("duplicate image id", image.where, what, image_id))
            continue
        good: list[Annotation] = []
        for entry in image.objects:
            number += 1
            found, faults = _check(entry, number, image.size, labels, masks)
            good += found
            where = f"{entry.where} of {image.where}"
            problems += [
                DataProblem(kind, where, what, image_id, entry.number) for kind, what in faults
            ]
            if segmentations is not None and found and entry.segmentation and not faults:
                segmentations[number] = entry.segmentation
        builder.add(image_id, str(image.file), image.size, good)
    return builder.build(), problems


def _check(
    entry: ObjectRecord,
    number: int,
    size: tuple[int, int],
    labels: dict[str, int],
    masks: bool | None,
) -> tuple[list[Annotation], list[Fault]]:
    """Returns the annotation, in a list that is empty if it is unusable, and its faults.

    An object without a mask where masks are required becomes a region to ignore, its box.
    """
    if entry.name not in labels:
        known = ", ".join(list(labels)[:12]) + (", ..." if len(labels) > 12 else "")
        what = f"category '{entry.name[:60]}' is not among {known or 'none'}"
        return [], [("unknown category", what)]
    box = entry.box or bounds(entry.segmentation)
    if not finite(box):
        what = f"wanted a box of four finite numbers, got {[float(side) for side in box]}"
        return [], [("invalid annotation", what)]
    fault = box_fault(box, size)
    if fault is not None:
        return [], [fault]
    found = Annotation(number, labels[entry.name], box, box[2] * box[3], entry.crowd)
    if masks is False or (masks is None and not entry.segmentation):
        return [found], []
    found.code, faults = encode(entry.segmentation, size)
    if found.code:
        found.area = float(coco_mask.area({"size": [size[1], size[0]], "counts": found.code}))
    else:
        found.code, found.crowd = box_code(box, size), True
    return [found], faults


def bounds(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """Returns the box x, y, width, height around polygons [[x0, y0, x1, y1, ...], ...]."""
    points = np.concatenate([np.asarray(part, np.float64) for part in polygons]).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x0, y0, x1 - x0, y1 - y0
