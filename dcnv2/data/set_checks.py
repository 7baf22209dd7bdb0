# SPDX-License-Identifier: BSD-3-Clause
"""Problems of a data set as a whole, where each of its annotations could be right by itself."""

import numpy as np

from dcnv2.data.annotations import DataProblem, Table, count_text
from dcnv2.data.dataset import DetectionDataset

MARGIN = 2.0
"""Annotators' boxes stick out of their image by less, in pixels."""
MIN_OUTSIDE, MIN_OUTSIDE_SHARE = 3, 0.1
"""So many boxes, and this share of all, must stick out before their format is in doubt."""
UNIT = 2.0
"""Boxes of a set that all lie within so many pixels of the corner are shares of the image."""
AREA_TOLERANCE = 0.01


def set_problems(dataset: DetectionDataset) -> list[DataProblem]:
    """Returns what makes a whole set useless: emptiness, and boxes of another format."""
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
    """Returns a problem if the boxes, taken as x, y, width and height, can't be meant."""
    table = dataset.table
    if not len(table.boxes):
        return []
    if table.boxes.max() < UNIT:
        what = "every box ends within 2 pixels of the corner, as shares of the image from 0 to 1 do"
        return [DataProblem("boxes not in pixels", dataset.source, what)]
    owner = np.repeat(np.arange(len(dataset)), np.diff(table.first))
    size = table.sizes[owner]
    near, far = table.boxes[:, :2], table.boxes[:, 2:]
    outside = (near + far > size + MARGIN).any(axis=1)
    doubtful = outside.sum() >= max(MIN_OUTSIDE, MIN_OUTSIDE_SHARE * len(outside))
    fits_corners = bool((far > near).all() and (far <= size + MARGIN).all())
    fits_centre = bool(
        (near - far / 2 >= -MARGIN).all() and (near + far / 2 <= size + MARGIN).all()
    )
    meant = {
        "corners x1, y1, x2, y2": fits_corners and (doubtful or _areas_are_of_corners(table)),
        "centre x, y, width, height": fits_centre and doubtful,
    }
    if not any(meant.values()):
        return []
    formats = " or as ".join(name for name, fits in meant.items() if fits)
    what = f"{outside.sum()} of {len(outside)} boxes end outside their image; as {formats} all fit"
    return [DataProblem("boxes not x, y, width, height", dataset.source, what)]


def _areas_are_of_corners(table: Table) -> bool:
    """Whether the annotated areas are those of boxes from (x1, y1) to (x2, y2)."""
    near, far = table.boxes[:, :2], table.boxes[:, 2:]
    corners, sides = (far - near).prod(axis=1), far.prod(axis=1)
    return bool(
        np.isclose(table.areas, corners, rtol=AREA_TOLERANCE).all()
        and not np.isclose(table.areas, sides, rtol=AREA_TOLERANCE).any()
    )


def unused_classes(dataset: DetectionDataset) -> list[str]:
    """Returns the names of the categories without an object, in label order."""
    table = dataset.table
    counts = np.bincount(table.labels[~table.crowd], minlength=len(table.names) + 1)
    return [name for label, name in enumerate(table.names, start=1) if not counts[label]]
