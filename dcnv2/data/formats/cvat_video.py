# SPDX-License-Identifier: BSD-3-Clause
"""CVAT's tracks, exported as "CVAT for video 1.1", as images with shapes."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from dcnv2.data.annotations import DataProblem
from dcnv2.data.formats.files import pictures_in
from dcnv2.data.images import upright_sizes

FRAME = re.compile(r"frame_(\d+)")


def images_of_tracks(
    document: ElementTree.Element, path: Path
) -> tuple[list[ElementTree.Element], list[DataProblem]]:
    """Returns an `<image>`, as in "CVAT for images", for each picture and each annotated frame.

    Pictures are in `images/`: `frame_000012.png` is frame 12, pictures with other names have the
    numbers of their places by name. Shapes that are outside of the picture are left out.

    Args:
        document: with `<track>` elements.
        path: its file.

    Returns:
        The elements, and a problem for each stretch of pictures for which a track has no shape.

    Raises:
        ValueError: there are no pictures, a frame is no number, or it is the export of a project.
    """
    if document.find("meta/project") is not None:
        raise ValueError(
            f"{path}: tracks of a project, whose tasks each count frames from 0: export the tasks"
        )
    pictures = _pictures(path)
    shapes: dict[int, list[ElementTree.Element]] = defaultdict(list)
    problems = []
    for track in document.iterfind("track"):
        entries = sorted(((_frame(shape, path), shape) for shape in track), key=lambda e: e[0])
        for number, shape in entries:
            if shape.get("outside") != "1":
                attributes = {**shape.attrib, "label": track.get("label", "")}
                shapes[number].append(ElementTree.Element(shape.tag, attributes))
        for first, last in _gaps(entries, pictures):
            what = f"{path}: no shape in frames {first} to {last}, which are not interpolated"
            problems.append(DataProblem("invalid annotation", f"track {track.get('id')}", what))
    size = document.find("meta//original_size")
    width, height = (
        ("", "") if size is None else (size.findtext(k, "") for k in ("width", "height"))
    )
    sizes = dict(zip(pictures, upright_sizes(list(pictures.values())), strict=True))
    images = []
    for number in sorted({*pictures, *shapes}):
        own = sizes.get(number)
        sides = (
            (str(own[0]), str(own[1])) if not width and isinstance(own, tuple) else (width, height)
        )
        file = pictures.get(number)
        name = f"frame_{number:06d}.png" if file is None else str(file.relative_to(path.parent))
        image = ElementTree.Element("image", name=name, width=sides[0], height=sides[1])
        image.extend(shapes[number])
        images.append(image)
    return images, problems


def _pictures(path: Path) -> dict[int, Path]:
    """Returns the pictures next to a file by the numbers of their frames."""
    files = pictures_in(path.parent)
    if not files:
        raise ValueError(
            f"{path}: tracks without pictures: export with 'Save images', or write them with "
            f"`ffmpeg -i VIDEO -start_number 0 {path.parent / 'images'}/frame_%06d.png`"
        )
    found = [FRAME.fullmatch(file.stem) for file in files]
    numbers = [int(match[1]) for match in found if match is not None]
    by_name = len(numbers) == len(files) == len(set(numbers))
    return dict(zip(numbers if by_name else range(len(files)), files, strict=True))


def _frame(shape: ElementTree.Element, path: Path) -> int:
    text = shape.get("frame", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{path}: frame: wanted a whole number, got {text[:60]!r}")
    return int(text)


def _gaps(
    entries: list[tuple[int, ElementTree.Element]], pictures: dict[int, Path]
) -> Iterator[tuple[int, int]]:
    """Yields stretches of pictures between two shapes of which the first goes on."""
    for (begin, shape), (end, _) in itertools.pairwise(entries):
        between = [number for number in pictures if begin < number < end]
        if shape.get("outside") != "1" and between:
            yield min(between), max(between)
