# SPDX-License-Identifier: BSD-3-Clause
"""Data sets from Python: any object with two methods, named as `package.module:function`."""

import contextlib
import importlib
import re
import reprlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dcnv2.data.annotations import DataProblem
from dcnv2.data.formats.records import ImageRecord, ObjectRecord, Split
from dcnv2.data.images import BadImageError, upright_sizes
from dcnv2.data.polygons import finite, polygon_fault

SPEC = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


class DataSource(Protocol):
    """What a function named as a split returns, such as `--data.train=package.module:function`."""

    def names(self) -> Sequence[str]:
        """Returns the names of the classes, in label order."""

    def images(self) -> Iterable[Mapping[str, Any]]:
        """Returns the images, the same ones in the same order at each call.

        Each is a mapping with `file`, the path of the picture, and `objects`, a list of mappings:

            class: its name;
            box: [x, y, width, height] in pixels, may be left out if there are polygons;
            segmentation: polygons [[x0, y0, x1, y1, ...], ...] or run lengths as in COCO, optional;
            crowd: True for a region to ignore, optional.

        `width` and `height` of an image are optional; so is `id`, a whole number.
        """


def read_source(spec: str, masks: bool, limit: int | None = None) -> Split:
    """Calls a function and reads the data set that it returns, see `DataSource`.

    The working directory is searched for the module, too.

    Args:
        spec: `package.module:function`.
        masks: as of the other readers; segmentations are always read.
        limit: read only this many images.

    Raises:
        ValueError: there is no such function, it fails, or what it returns is no `DataSource`.
    """
    with _reporting(spec):
        source = _function(spec)()
        lacking = [
            name for name in ("names", "images") if not callable(getattr(source, name, None))
        ]
        if lacking:
            kind = type(source).__name__
            raise TypeError(f"returns {kind}, which has no method {' and no '.join(lacking)}")
        names = list(source.names())
        if not names or len(set(map(str, names))) < len(names):
            raise ValueError(f"names: wanted different names of classes, got {reprlib.repr(names)}")
        wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
        if wrong:
            raise ValueError(f"names: wanted texts, got {reprlib.repr(wrong[0])}")
        entries: list[Any] = []
        for entry in source.images():
            if limit is not None and len(entries) == limit:
                break
            entries.append(entry)
    result = Split(names, [], spec)
    files = [_file(entry) for entry in entries]
    sizes = iter(upright_sizes([file for file in files if file is not None]))
    seen: set[int] = set()
    for place, (entry, file) in enumerate(zip(entries, files, strict=True)):
        where = f"image {place}" if file is None else f"image {file}"
        size = None if file is None else next(sizes)
        try:
            if file is None:
                got = reprlib.repr(entry)
                raise ValueError(f"wanted a mapping with 'file', the path of a picture; got {got}")
            if isinstance(size, BadImageError):
                result.problems.append(DataProblem(size.kind, where, str(size)))
                continue
            assert size is not None
            image = _image(entry, file, where, size, result.problems)
            image.image_id = place + 1 if image.image_id is None else image.image_id
            if image.image_id in seen:
                what = f"the id {image.image_id} occurred before"
                result.problems.append(DataProblem("duplicate image id", where, what))
                continue
            seen.add(image.image_id)
            result.images.append(image)
        except ValueError as error:
            result.problems.append(DataProblem("invalid image entry", where, str(error)))
    return result


def _function(spec: str) -> Any:
    module, _, name = spec.partition(":")
    sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(module), name, None)
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove("")
    if not callable(function):
        raise ValueError(f"the module {module} has no function {name}")
    return function


@contextlib.contextmanager
def _reporting(spec: str) -> Iterator[None]:
    """Turns what someone else's code raises into a sentence; --debug shows the traceback."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"data set {spec}: {kind}{error}") from error


def _file(entry: Any) -> Path | None:
    file = entry.get("file") if isinstance(entry, Mapping) else None
    return Path(file) if isinstance(file, str | Path) and str(file) else None


def _image(
    entry: Mapping[str, Any],
    file: Path,
    where: str,
    size: tuple[int, int],
    problems: list[DataProblem],
) -> ImageRecord:
    """Returns an image with its sound objects; adds the problems of the others."""
    given = entry.get("width", size[0]), entry.get("height", size[1])
    number, objects = entry.get("id"), entry.get("objects", ())
    whole = [*given, 0 if number is None else number]
    if not finite(whole) or any(value != int(value) for value in whole) or min(given) < 1:
        raise ValueError(f"wanted whole numbers as width, height and id, got {reprlib.repr(whole)}")
    if not isinstance(objects, Sequence) or isinstance(objects, str):
        raise ValueError(f"objects: wanted a list, got {reprlib.repr(objects)}")
    image = ImageRecord(file, where, (int(given[0]), int(given[1])), [], number)
    for place, item in enumerate(objects):
        try:
            image.objects.append(_object(item, place))
        except ValueError as error:
            at = f"object {place} of {where}"
            problems.append(DataProblem("invalid annotation", at, str(error), None, place))
    return image


def _object(item: Any, place: int) -> ObjectRecord:
    if not isinstance(item, Mapping) or not isinstance(item.get("class"), str):
        raise ValueError(f"wanted a mapping with 'class', a name; got {reprlib.repr(item)}")
    box, segmentation = item.get("box"), item.get("segmentation")
    if box is None:
        if not isinstance(segmentation, list) or not segmentation:
            raise ValueError("wanted a box or polygons")
        for what in map(polygon_fault, segmentation):
            if what is not None:
                raise ValueError(f"wanted a box or polygons: {what}")
    else:
        try:
            box = tuple(float(side) for side in box)
        except (TypeError, ValueError):
            box = ()
        if len(box) != 4 or not finite(box):
            got = reprlib.repr(item["box"])
            raise ValueError(f"wanted a box of four finite numbers, got {got}")
    crowd = bool(item.get("crowd", False))
    return ObjectRecord(f"object {place}", item["class"], box, segmentation, crowd, place)
