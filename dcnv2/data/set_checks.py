# SPDX-License-Identifier: BSD-3-Clause
"""Problems of a data set as a whole, which no single annotation shows."""

import numpy as np
from pycocotools import mask as coco_mask

from dcnv2.data.annotations import DataProblem, Table, count_text
from dcnv2.data.dataset import DetectionDataset

MARGIN = 2.0
"""Pixels by which a correct box may stick out of its image."""
MIN_OUTSIDE, MIN_OUTSIDE_SHARE = 3, 0.1
"""The format is in doubt if at least this many boxes, and this share of all, stick out."""
UNIT = 2.0
"""If no number of a set's boxes reaches this many pixels, they are shares of the image."""
MIN_SIDE = 8
"""Images with no longer side are too small to tell shares from pixels."""
AREA_TOLERANCE = 0.01
"""Relative difference of areas that count as equal."""
MAX_MASKS = 1000
"""Number of masks, evenly chosen, that are compared with their boxes."""


def set_problems(dataset: DetectionDataset) -> list[DataProblem]:
    """Returns the problems that make a whole set useless: emptiness, or another box format."""
    return emptiness(dataset) + box_format(dataset)


def emptiness(dataset: DetectionDataset) -> list[DataProblem]:
    """Returns a problem if there is no image, or no object but crowd regions."""
    skipped = f" ({count_text(dataset.problems)})" if dataset.problems else ""
    if not len(dataset):
        return [DataProblem("no images", dataset.source, f"the set is empty{skipped}")]
    crowds = len(dataset.table.ids)
    if not dataset.table.crowd.all():
        return []
    what = f"all {crowds} annotations are crowd regions" if crowds else "there are no annotations"
    return [DataProblem("no objects", dataset.source, what + skipped)]


def box_format(dataset: DetectionDataset) -> list[DataProblem]:
    """Returns a problem if the boxes cannot be x, y, width and height in pixels."""
    table = dataset.table
    if not len(table.boxes):
        return []
    owner = table.owners()
    size = table.sizes[owner]
    telling = table.boxes[size.max(axis=1) > MIN_SIDE]
    if len(telling) and telling.max() < UNIT:
        what = "every box ends within 2 pixels of the corner, as shares of the image from 0 to 1 do"
        return [DataProblem("boxes not in pixels", dataset.source, what)]
    near, far = table.boxes[:, :2], table.boxes[:, 2:]
    outside = (near + far > size + MARGIN).any(axis=1)
    doubtful = outside.sum() >= max(MIN_OUTSIDE, MIN_OUTSIDE_SHARE * len(outside))
    meant = {
        "corners x1, y1, x2, y2": np.hstack([near, far - near]),
        "centre x, y, width, height": np.hstack([near - far / 2, far]),
    }
    fitting = [
        name
        for name, boxes in meant.items()
        if _are_inside(boxes, size)
        and (doubtful or _areas_are_of(boxes, table) or _masks_are_of(boxes, dataset, owner))
    ]
    if not fitting:
        return []
    what = f"{outside.sum()} of {len(outside)} boxes end outside their image; all fit as "
    what += " or as ".join(fitting)
    return [DataProblem("boxes not x, y, width, height", dataset.source, what)]


def _are_inside(boxes: np.ndarray, size: np.ndarray) -> bool:
    """Whether boxes [A, 4] (x, y, width, height) have an area and stay within their images."""
    near, sides = boxes[:, :2], boxes[:, 2:]
    far = near + sides
    return bool((near > -MARGIN).all() and (sides > 0).all() and (far < size + MARGIN).all())


def _areas_are_of(boxes: np.ndarray, table: Table) -> bool:
    """Whether the annotated areas are those of other boxes than the table's."""
    other, own = boxes[:, 2:].prod(axis=1), table.boxes[:, 2:].prod(axis=1)
    return bool(
        np.isclose(table.areas, other, rtol=AREA_TOLERANCE).all()
        and not np.isclose(table.areas, own, rtol=AREA_TOLERANCE).any()
    )


def _masks_are_of(boxes: np.ndarray, dataset: DetectionDataset, owner: np.ndarray) -> bool:
    """Whether most masks end where other boxes do, and not where the table's do."""
    rows = np.flatnonzero(~dataset.table.crowd)
    if not dataset.masks or not len(rows):
        return False
    rows = rows[:: -(-len(rows) // MAX_MASKS)]
    codes = [dataset.table.code(row, owner[row]) for row in rows.tolist()]
    bounds = coco_mask.toBbox(codes)
    other, own = (
        np.median(np.abs(given[rows] - bounds).max(axis=1))
        for given in (boxes, dataset.table.boxes)
    )
    return bool(other < MARGIN < own / 2)


def unused_classes(dataset: DetectionDataset) -> list[str]:
    """Returns the names of the categories without an object, in label order."""
    table = dataset.table
    counts = np.bincount(table.labels[~table.crowd], minlength=len(table.names) + 1)
    return [name for label, name in enumerate(table.names, start=1) if not counts[label]]
