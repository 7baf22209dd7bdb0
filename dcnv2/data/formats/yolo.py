# SPDX-License-Identifier: BSD-3-Clause
"""YOLO's text files: a line for each object, a class number and a box or a polygon."""

import reprlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dcnv2.data.annotations import DataProblem
from dcnv2.data.formats.files import BadFileError, file_number, number, read_lines
from dcnv2.data.formats.records import ImageRecord, ObjectRecord, Split
from dcnv2.data.formats.yolo_layout import absent_splits, pictures_of, read_names, yolo_splits
from dcnv2.data.images import BadImageError, upright_sizes

LIMIT = 1.5
"""Coordinates are shares of the image; augmented ones stick out a little, pixels are far beyond."""


def read_yolo(root: Path, split: str, masks: bool, limit: int | None = None) -> Split:
    """Reads a split of a folder in YOLO's format; see `yolo_splits`.

    A picture's label file has its name, in the folder `labels` instead of `images`, or next to it.
    An empty one is a picture without objects; so is one that is missing, which a note counts.

    Raises:
        FileNotFoundError: A folder or list of the split is missing.
        ValueError: The description of the data set is damaged, or no picture has a label file.
    """
    names, source, has_points = read_names(root)
    files = pictures_of(root, yolo_splits(root)[split])[:limit]
    result = Split(names, [], f"{source} ({split})")
    unlabelled = []
    for file, size in zip(files, upright_sizes(files), strict=True):
        where = f"image {_short(file, root)}"
        labels = label_file(file)
        if isinstance(size, BadImageError):
            result.problems.append(DataProblem(size.kind, where, str(size)))
            continue
        objects: list[ObjectRecord] = []
        try:
            lines = read_lines(labels)
        except FileNotFoundError:
            unlabelled.append(file)
            lines = []
        except BadFileError as error:
            result.problems.append(
                DataProblem("missing annotation file", where, f"{labels}: {error}")
            )
            continue
        for place, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    objects.append(_read_object(line, place, size, names, has_points))
                except _UnknownClassError as error:
                    at = f"{labels}, line {place}"
                    result.problems.append(DataProblem("unknown category", at, str(error)))
                except ValueError as error:
                    at = f"{labels}, line {place}"
                    result.problems.append(DataProblem("invalid annotation", at, str(error)))
        result.images.append(ImageRecord(file, where, size, objects))
    result.notes += _notes(root, files, has_points)
    if unlabelled and len(unlabelled) == len(files):
        raise ValueError(
            f"{root}: no picture of '{split}' has a label file, such as {label_file(files[0])}"
        )
    if unlabelled:
        text = f"{file_number(unlabelled)}, without a label file: taken as without objects"
        result.notes.append(text)
    return result


def _notes(root: Path, files: list[Path], has_points: bool) -> Iterator[str]:
    """Yields what is left out or doubtful besides the lines."""
    if has_points:
        yield "key points are left out: only the boxes are used"
    for name, path in absent_splits(root).items():
        yield f"the description also names '{name}', but there is no {path}"
    if unused := _labels_without_picture(files):
        yield f"{file_number(unused, 'label file')}, without a picture: left out"
    counts = Counter(map(label_file, files))
    if shared := [path for path, count in counts.items() if count > 1]:
        yield f"{file_number(shared, 'label file')}, used for several pictures of that name"


def label_file(picture: Path) -> Path:
    """Returns where labels are: in `labels` instead of the last `images`, or beside the picture."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            path = Path(*parts).with_suffix(".txt")
            if path.parent.is_dir() or not picture.with_suffix(".txt").is_file():
                return path
            break
    return picture.with_suffix(".txt")


def _labels_without_picture(files: list[Path]) -> list[Path]:
    """Returns the label files of these pictures' folders whose names no picture has."""
    unused: list[Path] = []
    for labels, pictures in sorted({(label_file(file).parent, file.parent) for file in files}):
        if labels != pictures and labels.is_dir():
            used = {path.stem for path in pictures.iterdir()} | {"classes"}  # names, by labelImg
            unused += sorted(path for path in labels.glob("*.txt") if path.stem not in used)
    return unused


def _short(file: Path, root: Path) -> str:
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


def _count_hint(count: int) -> str:
    if count == 5:
        return ": a box with the score of a prediction?"
    if count % 3 == 1 or count % 2 == 0:  # a box, and x, y and visibility of key points
        return ": for key points, data.yaml must have kpt_shape"
    return ""


class _UnknownClassError(ValueError):
    pass


def _read_object(
    line: str, place: int, size: tuple[int, int], names: list[str], has_points: bool
) -> ObjectRecord:
    """Returns the object of a line; raises ValueError if it is none."""
    try:
        label, *values = map(number, line.split())
    except ValueError:
        got = reprlib.repr(line.strip())
        raise ValueError(f"wanted a class number and coordinates, got {got}") from None
    if label != int(label) or not 0 <= label < len(names):
        raise _UnknownClassError(
            f"class {label:g} is not among 0 ({names[0]}) to {len(names) - 1} ({names[-1]})"
        )
    if has_points:
        values = values[:4]  # the box is before the key points
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            "wanted the 4 numbers of a box, or an even count of 6 or more of a polygon, after the "
            f"class; got {len(values)}{_count_hint(len(values))}"
        )
    beyond = [value for value in values if not 1 - LIMIT <= value <= LIMIT]
    if beyond:
        raise ValueError(
            f"{beyond[0]:g} is no share of the image from 0 to 1: YOLO's coordinates are not pixels"
        )
    where, name = f"line {place}", names[int(label)]
    scaled = [value * size[axis % 2] for axis, value in enumerate(values)]
    if len(values) > 4:
        return ObjectRecord(where, name, None, [scaled], number=place)
    x, y, width, height = scaled
    return ObjectRecord(where, name, (x - width / 2, y - height / 2, width, height), number=place)
