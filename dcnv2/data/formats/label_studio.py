# SPDX-License-Identifier: BSD-3-Clause
"""Label Studio's own JSON, whole ("JSON") or reduced ("JSON-MIN")."""

import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dcnv2.data.annotations import DataProblem
from dcnv2.data.formats.files import UNSPLIT, BadFileError, find_picture, read_bytes
from dcnv2.data.formats.records import ImageRecord, ObjectRecord, Split
from dcnv2.data.images import SUFFIXES, BadImageError, upright_sizes
from dcnv2.data.polygons import ellipse_outline, finite, turned

Shape = dict[str, Any]
PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the names of uploaded files."""


def label_studio_splits(root: Path) -> list[str]:
    """Returns the names of a folder's files of tasks; `all` if there is one."""
    return sorted(_task_files(root))


def read_label_studio(root: Path, split: str, masks: bool, limit: int | None = None) -> Split:
    """Reads a file of tasks; its classes are the labels in it, sorted.

    Rectangles, also turned ones, polygons and ellipses are objects; others are counted in a note.
    Of a task with several annotations, the first that was not cancelled is read.
    """
    path = _task_files(root)[split]
    tasks = _tasks(path)
    result = Split([], [], str(path))
    read = [(f"task {task.get('id', place)}", task) for place, task in enumerate(tasks, start=1)]
    names: set[str] = set()
    other: Counter[str] = Counter()
    several = 0
    pictures = [_picture(root, task) for _, task in read]
    sizes = iter(upright_sizes([picture for picture in pictures if picture is not None]))
    for place, ((where, task), picture) in enumerate(zip(read, pictures, strict=True)):
        shapes, choices = _shapes(task)
        several += choices > 1
        names |= {label for shape in shapes if (label := _label(shape))}
        if picture is None:
            what = f"{path}: no text in it names a picture"
            result.problems.append(DataProblem("invalid image entry", where, what))
            continue
        size = next(sizes)
        if limit is not None and place >= limit:
            continue
        if isinstance(size, BadImageError):
            result.problems.append(DataProblem(size.kind, where, str(size)))
            continue
        objects = []
        for row, shape in enumerate(shapes, start=1):
            kind = _kind(shape)
            if kind not in READERS:
                other[kind] += 1
                continue
            try:
                objects.append(_object(shape, kind, row, size))
            except ValueError as error:
                at = f"object {row} of {where}"
                result.problems.append(DataProblem("invalid annotation", at, str(error)))
        result.images.append(ImageRecord(picture, f"{where} ({picture.name})", size, objects))
    result.names = sorted(names)
    if other:
        counts = ", ".join(f"{count} {kind}" for kind, count in other.most_common())
        result.notes.append(f"left out: {counts}, which are no boxes or polygons")
    if several:
        result.notes.append(f"{several} tasks have several annotations: the first of each is used")
    return result


def _task_files(root: Path) -> dict[str, Path]:
    """Returns the files of tasks in a folder by the name of their split."""
    files = [path for path in sorted(root.glob("*.json")) if _tasks(path)]
    return {UNSPLIT: files[0]} if len(files) == 1 else {path.stem: path for path in files}


def _tasks(path: Path) -> list[Mapping[str, Any]]:
    """Returns the tasks in a file, none if it is something else."""
    try:
        content = json.loads(read_bytes(path).decode("utf-8-sig"))
    except (BadFileError, OSError, ValueError, RecursionError):
        return []
    if not isinstance(content, list) or not all(isinstance(task, Mapping) for task in content):
        return []
    is_full = any(
        isinstance(task.get("data"), Mapping) and isinstance(task.get("annotations"), list)
        for task in content
    )
    return content if is_full or any(_shapes(task)[0] for task in content) else []


def _shapes(task: Mapping[str, Any]) -> tuple[list[Shape], int]:
    """Returns the shapes of a task, and how many annotations it has to choose from."""
    annotations = task.get("annotations")
    if isinstance(task.get("data"), Mapping) and isinstance(annotations, list):
        valid = [entry for entry in annotations if isinstance(entry, Mapping)]
        valid = [entry for entry in valid if not entry.get("was_cancelled")]
        items = valid[0].get("result") if valid else []
        whole = [item for item in _mappings(items) if isinstance(item.get("value"), Mapping)]
        # A relation or a choice for the picture has no size.
        sized = [item for item in whole if "original_width" in item]
        kept = ("image_rotation", "type")
        return [{**{k: item.get(k) for k in kept}, **item["value"]} for item in sized], len(valid)
    lists = (_mappings(value) for value in task.values() if isinstance(value, list))
    return [dict(item) for items in lists for item in items if "original_width" in item], 1


def _mappings(items: Any) -> Iterator[Mapping[str, Any]]:
    return (item for item in items if isinstance(item, Mapping)) if items else iter(())


def _label(shape: Shape) -> str | None:
    """Returns the class of a shape: the first of `rectanglelabels`, `labels` and the like."""
    for key, value in shape.items():
        if key.endswith("labels") and isinstance(value, list) and value:
            return value[0].strip() if isinstance(value[0], str) else None
    return None


def _kind(shape: Shape) -> str:
    if "points" in shape:
        return "polygon"
    if "radiusX" in shape:
        return "ellipse"
    if "width" in shape and "height" in shape:
        return "rectangle"
    return "brush" if "rle" in shape or "format" in shape else "keypoint"


def _object(shape: Shape, kind: str, row: int, size: tuple[int, int]) -> ObjectRecord:
    """Returns the object of a shape in pixels; raises ValueError if it is none."""
    name = _label(shape)
    if not name:
        raise ValueError(f"{kind}: has no label")
    if shape.get("image_rotation"):
        raise ValueError(f"{kind}: the picture was turned in Label Studio: turn its file instead")
    box, segmentation = READERS[kind](shape, size)
    return ObjectRecord(f"object {row}", name, box, segmentation, number=row)


def _rectangle(shape: Shape, size: tuple[int, int]) -> tuple[Any, Any]:
    x, y, width, height = _pixels(shape, ("x", "y", "width", "height"), size)
    angle = _numbers(shape, ("rotation",))[0] if "rotation" in shape else 0.0
    if not angle:
        return (x, y, width, height), None
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    return None, [turned(corners, x, y, angle)]  # around its first corner


def _polygon(shape: Shape, size: tuple[int, int]) -> tuple[Any, Any]:
    points = shape["points"]
    pairs = points if isinstance(points, list) else []
    if len(pairs) < 3 or not all(isinstance(p, list) and len(p) == 2 and finite(p) for p in pairs):
        got = reprlib.repr(points)
        raise ValueError(f"polygon: wanted three or more points [x, y], got {got}")
    return None, [
        [share * side / 100 for pair in pairs for share, side in zip(pair, size, strict=True)]
    ]


def _ellipse(shape: Shape, size: tuple[int, int]) -> tuple[Any, Any]:
    x, y, rx, ry = _pixels(shape, ("x", "y", "radiusX", "radiusY"), size)
    angle = _numbers(shape, ("rotation",))[0] if "rotation" in shape else 0.0
    return None, [ellipse_outline(x, y, rx, ry, angle)]


READERS = {"rectangle": _rectangle, "polygon": _polygon, "ellipse": _ellipse}


def _pixels(shape: Shape, keys: tuple[str, ...], size: tuple[int, int]) -> list[float]:
    """Returns numbers of a shape, which are in percent of width, height, width, height."""
    return [value * size[axis % 2] / 100 for axis, value in enumerate(_numbers(shape, keys))]


def _numbers(shape: Shape, keys: tuple[str, ...]) -> list[float]:
    values: list[Any] = [shape.get(key) for key in keys]
    if not finite(values):
        got = reprlib.repr(values)
        raise ValueError(f"wanted finite numbers as {', '.join(keys)}, got {got}")
    return [float(value) for value in values]


def _picture(root: Path, task: Mapping[str, Any]) -> Path | None:
    """Finds the picture of a task, which names a file on the server, in a storage, or a URL."""
    data = task["data"] if isinstance(task.get("data"), Mapping) else task
    for value in data.values():
        if not isinstance(value, str):
            continue
        url = urlsplit(value.strip().replace("\\", "/"))
        local = parse_qs(url.query).get("d", [""])[0]  # /data/local-files/?d=folder/a.jpg
        path = PurePosixPath(local or unquote(url.path))
        if path.suffix.lower() in SUFFIXES:
            parts = [part for part in path.parts if part != "/"]
            tails = ["/".join(parts[begin:]) for begin in range(len(parts))]
            names = [*tails, PREFIX.sub("", path.name)]
            return find_picture((root, root / "images"), names)
    return None
