# SPDX-License-Identifier: BSD-3-Clause
"""The annotations of a data set as columns, and the kinds of problems in them.

Readers of all formats return a Table. Columns take less memory than one dict per object, and worker
processes share them without copying.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KINDS = {
    "missing image": "no file where the image should be",
    "broken image": "not an image, cut short, damaged, or of another size than annotated",
    "invalid image entry": "an image without id, file name or size",
    "missing annotation file": "an image without the file that should describe it",
    "duplicate image id": "a second image with an id",
    "invalid annotation": "an annotation without id, image, category or box",
    "duplicate annotation id": "a second annotation with an id",
    "unknown image": "an annotation of an image that is not listed",
    "unknown category": "an annotation of a category that is not listed",
    "zero-area box": "a box without width or height",
    "box outside image": "a box that shares no area with its image",
    "missing mask": "an annotation without segmentation",
    "invalid polygon": "fewer than three points, an odd count, or not finite",
    "invalid RLE": "run lengths that do not fit the image",
    "empty mask": "a segmentation without a pixel",
    "no images": "a set without images",
    "no objects": "a set without objects, or with crowd regions only",
    "boxes not in pixels": "a set whose boxes are shares of the image",
    "boxes not x, y, width, height": "a set whose boxes are corners, or begin with the centre",
}
"""Every kind of problem of an image, an annotation or a whole set, and what it means.

An object whose only problem is its mask becomes a region to ignore."""

Fault = tuple[str, str]
"""A key of KINDS, and what was found."""

MIN_SIDE = 1e-3
"""Shorter box sides count as zero: float32 coordinates lose them when images are resized."""


@dataclass(frozen=True)
class DataProblem:
    """One problem of a data set.

    Attributes:
        kind: A key of KINDS.
        where: The file, image or annotation with the problem.
        what: What was found.
        image_id: The image concerned, where there is one.
        annotation_id: The annotation concerned, where it is one.
    """

    kind: str
    where: str
    what: str
    image_id: int | None = None
    annotation_id: int | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


class BadDataError(ValueError):
    """Raised before training where a data set has problems; `problems` holds them all."""

    SHOWN = 10

    def __init__(self, source: str, problems: Sequence[DataProblem]) -> None:
        self.problems = list(problems)
        lines = [f"{source}: {count_text(problems)}"]
        lines += [f"  {problem}" for problem in problems[: self.SHOWN]]
        if len(problems) > self.SHOWN:
            lines.append(f"  and {len(problems) - self.SHOWN} more")
        if all(problem.kind == "missing mask" for problem in problems):
            lines.append("  a model without masks needs none: --model.mask.enabled=false")
        lines.append('  on_bad="skip" leaves these out and counts them')
        super().__init__("\n".join(lines))


def count_text(problems: Iterable[DataProblem]) -> str:
    """Returns the number of problems by kind, as in '2 zero-area box, 1 missing image'."""
    counts = Counter(problem.kind for problem in problems)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "no problems"


@dataclass
class Table:
    """Images and annotations; the annotations of image i are rows first[i] to first[i + 1].

    Attributes:
        category_ids: Ids as in the file, ascending; label k is category_ids[k - 1].
        names: Names of the categories, in the same order.
        image_ids: int64 [I].
        files: Paths of the images.
        sizes: Width and height, int64 [I, 2].
        first: int64 [I + 1].
        ids: Annotation ids, int64 [A].
        labels: int64 [A], from 1.
        boxes: x, y, width, height as annotated, float64 [A, 4].
        areas: float64 [A].
        crowd: bool [A].
        codes: All compressed run-length codes in one string of bytes; empty without masks.
        ends: Where each annotation's code ends in `codes`, int64 [A].
    """

    category_ids: list[int]
    names: list[str]
    image_ids: np.ndarray
    files: list[str]
    sizes: np.ndarray
    first: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    codes: bytes
    ends: np.ndarray

    def rows(self, index: int) -> slice:
        """Returns the rows of the annotations of one image."""
        return slice(int(self.first[index]), int(self.first[index + 1]))

    def owners(self) -> np.ndarray:
        """Returns the index of the image of each annotation, int64 [A]."""
        return np.repeat(np.arange(len(self.files)), np.diff(self.first))

    def code(self, row: int, index: int) -> dict[str, Any]:
        """Returns one annotation's mask as pycocotools wants it, by its row and image."""
        begin = int(self.ends[row - 1]) if row else 0
        width, height = self.sizes[index].tolist()
        return {"size": [height, width], "counts": self.codes[begin : int(self.ends[row])]}


@dataclass
class Annotation:
    """One checked annotation on its way into a Table."""

    id: int
    label: int
    box: tuple[float, float, float, float]  # x, y, width, height
    area: float
    crowd: bool = False
    code: bytes = b""


@dataclass
class TableBuilder:
    """Collects images with their annotations, in the order in which they shall be served."""

    category_ids: list[int]
    names: list[str]
    image_ids: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)

    def add(
        self, image_id: int, file: str, size: tuple[int, int], annotations: Sequence[Annotation]
    ) -> None:
        """Adds an image of (width, height) with its annotations."""
        self.image_ids.append(image_id)
        self.files.append(file)
        self.sizes.append(size)
        self.counts.append(len(annotations))
        self.annotations += annotations

    def build(self) -> Table:
        """Returns the table of what was added."""
        rows = self.annotations
        lengths = [len(row.code) for row in rows]
        return Table(
            category_ids=self.category_ids,
            names=self.names,
            image_ids=np.array(self.image_ids, np.int64),
            files=self.files,
            sizes=np.array(self.sizes, np.int64).reshape(-1, 2),
            first=np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)]),
            ids=np.array([row.id for row in rows], np.int64),
            labels=np.array([row.label for row in rows], np.int64),
            boxes=np.array([row.box for row in rows], np.float64).reshape(-1, 4),
            areas=np.array([row.area for row in rows], np.float64),
            crowd=np.array([row.crowd for row in rows], bool),
            codes=b"".join(row.code for row in rows),
            ends=np.cumsum(lengths, dtype=np.int64),
        )


def box_fault(box: Sequence[float], size: tuple[int, int]) -> Fault | None:
    """Returns (kind, what) where a box x, y, width, height is no use in an image, else None.

    Boxes that stick out are no fault: they are clipped.
    """
    x, y, width, height = box
    if not (width > MIN_SIDE and height > MIN_SIDE):
        return "zero-area box", f"box is {width:g} wide and {height:g} high"
    inside_width = min(x + width, size[0]) - max(x, 0)
    inside_height = min(y + height, size[1]) - max(y, 0)
    if not (inside_width > MIN_SIDE and inside_height > MIN_SIDE):
        corners = f"[{x:g}, {y:g}, {x + width:g}, {y + height:g}]"
        return "box outside image", f"box {corners} in an image of {size[0]} x {size[1]}"
    return None
