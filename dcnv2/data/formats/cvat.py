# SPDX-License-Identifier: BSD-3-Clause
"""CVAT's own XML, exported as "CVAT for images 1.1" or "CVAT for video 1.1"."""

import reprlib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from dcnv2.data.annotations import DataProblem
from dcnv2.data.formats.cvat_video import images_of_tracks
from dcnv2.data.formats.files import BadFileError, find_picture, number, read_xml
from dcnv2.data.formats.records import ImageRecord, ObjectRecord, Split
from dcnv2.data.polygons import ellipse_outline, turned_box

FILE = "annotations.xml"
UNSPLIT = "default"
SHAPES = ("box", "polygon", "ellipse", "mask")
OTHER_SHAPES = ("polyline", "points", "cuboid", "skeleton")
"""Shapes that are no objects of a detector; a note counts them."""


def cvat_splits(root: Path) -> list[str]:
    """Returns the subsets of a folder with CVAT's XML, `default` if it has none."""
    if not (root / FILE).is_file():
        return []
    subsets = {image.get("subset") or UNSPLIT for image in _read(root / FILE).iter("image")}
    return sorted(subsets) or [UNSPLIT]


def read_cvat(root: Path, split: str, masks: bool, limit: int | None = None) -> Split:
    """Reads a subset of a folder with CVAT's XML; its classes are those of the project, in order.

    Raises:
        ValueError: The file is not CVAT's, or its tracks cannot be read, see `images_of_tracks`.
    """
    path = root / FILE
    document = _read(path)
    names = [
        label.findtext("name", "").strip() for label in document.iterfind("meta//labels/label")
    ]
    result = Split(list(dict.fromkeys(filter(None, names))), [], str(path))
    if not result.names:
        raise ValueError(f"{path}: no names of classes in <meta>")
    images = [e for e in document.iter("image") if (e.get("subset") or UNSPLIT) == split]
    if document.find("track") is not None:
        images, result.problems = images_of_tracks(document, path)
    other: Counter[str] = Counter()
    for place, element in enumerate(images[:limit]):
        name = element.get("name", "").strip()
        where = f"image {name or f'number {place + 1}'}"
        try:
            size = _whole(element, "width"), _whole(element, "height")
            if not name or min(size) < 1:
                raise ValueError("wanted a name, and a width and height of at least 1")
        except ValueError as error:
            result.problems.append(DataProblem("invalid image entry", where, f"{path}: {error}"))
            continue
        folders = (root / "images" / split, root / "images", root)
        objects = []
        for row, shape in enumerate(element, start=1):
            if shape.tag in OTHER_SHAPES:
                other[shape.tag] += 1
            elif shape.tag in SHAPES:
                try:
                    objects.append(_read_shape(shape, row, size))
                except ValueError as error:
                    at = f"object {row} of {where}"
                    problem = DataProblem("invalid annotation", at, f"{shape.tag}: {error}")
                    result.problems.append(problem)
        result.images.append(ImageRecord(find_picture(folders, [name]), where, size, objects))
    if other:
        counts = ", ".join(f"{count} {tag}" for tag, count in other.most_common())
        result.notes.append(f"left out: {counts}, which are no boxes or masks")
    return result


def _read(path: Path) -> ElementTree.Element:
    try:
        root = read_xml(path)
    except BadFileError as error:
        raise ValueError(f"{path}: {error}") from None
    if root.tag != "annotations":
        raise ValueError(f"{path}: not CVAT's XML: wanted <annotations>, got <{root.tag[:60]}>")
    return root


def _read_shape(shape: ElementTree.Element, row: int, size: tuple[int, int]) -> ObjectRecord:
    """Returns the object of a shape; raises ValueError if a number is missing or impossible."""
    name = shape.get("label", "").strip()
    if not name:
        raise ValueError("has no label")
    box: Any = None
    segmentation: Any = None
    if shape.tag == "box":
        x0, y0, x1, y1 = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        box = (x0, y0, x1 - x0, y1 - y0)
        if angle := _number(shape, "rotation", 0.0):
            segmentation, box = [turned_box(box, angle)], None
    elif shape.tag == "polygon":
        segmentation = [_points(shape.get("points", ""))]
    elif shape.tag == "ellipse":
        cx, cy, rx, ry = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        angle = _number(shape, "rotation", 0.0)
        segmentation = [ellipse_outline(cx, cy, rx, ry, angle)]
    else:
        segmentation, box = _mask(shape, size)
    return ObjectRecord(f"object {row}", name, box, segmentation, number=row)


def _points(text: str) -> list[float]:
    """Returns x0, y0, x1, y1, ... of `x0,y0;x1,y1;...`."""
    try:
        pairs = [[number(part) for part in pair.split(",")] for pair in text.split(";")]
        if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
            raise ValueError
    except ValueError:
        got = reprlib.repr(text)
        raise ValueError(f"points: wanted x,y;x,y;... of three or more points, got {got}") from None
    return [value for pair in pairs for value in pair]


def _mask(shape: ElementTree.Element, size: tuple[int, int]) -> tuple[Any, Any]:
    """Returns the run lengths and the box of a mask: runs along the rows of a window."""
    left, top, width, height = (_whole(shape, key) for key in ("left", "top", "width", "height"))
    inside = left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]
    if width < 1 or height < 1 or not inside:
        raise ValueError(f"its window {left}, {top}, {width}, {height} is not inside the image")
    try:
        runs = [int(part) for part in shape.get("rle", "").split(",")]
    except ValueError:
        raise ValueError("rle: wanted whole numbers") from None
    if min(runs) < 0 or sum(runs) != width * height:
        raise ValueError(f"rle: runs add up to {sum(runs)} of {width * height} pixels")
    window = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(height, width)
    mask = np.zeros((size[1], size[0]), np.uint8, order="F")
    mask[top : top + height, left : left + width] = window
    return coco_mask.encode(mask), (float(left), float(top), float(width), float(height))


def _number(shape: ElementTree.Element, key: str, default: float | None = None) -> float:
    text = shape.get(key)
    if text is None and default is not None:
        return default
    try:
        return number(text)
    except ValueError:
        raise ValueError(f"{key}: wanted a finite number, got {reprlib.repr(text)}") from None


def _whole(element: ElementTree.Element, key: str) -> int:
    value = _number(element, key)
    if value != int(value) or abs(value) > 2**31:
        raise ValueError(f"{key}: wanted a whole number, got {reprlib.repr(element.get(key))}")
    return int(value)
