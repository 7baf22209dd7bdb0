# SPDX-License-Identifier: BSD-3-Clause
"""Pascal VOC folders in their native XML."""

import reprlib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
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
from dcnv2.data.images import BadImageError, probe_all
from dcnv2.data.polygons import finite
from dcnv2.data.segmentation import box_code

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}
"""What `difficult` may be, in lower case."""
MAX_DIGITS = 18
"""Numbers of more digits may not fit 64 bits."""


def locate(root: str | Path, split: str, masks: bool) -> tuple[Path, Path]:
    """Finds a year's folder and the list of a split's images.

    Args:
        root: The folder that holds Annotations, ImageSets and JPEGImages; or, for a split with a
            year before its name such as `2007_trainval`, one that contains `VOC2007` or
            `VOCdevkit/VOC2007`.
        split: Name of a list in `ImageSets/Main`, or in `ImageSets/Segmentation` with masks.
        masks: Whether masks are required.

    Returns:
        The year's folder, and the list.

    Raises:
        FileNotFoundError: Nothing was found; the message lists the paths that were tried.
    """
    root, kind = Path(root), "Segmentation" if masks else "Main"
    year, _, name = split.partition("_")
    tried = [(root, split)]
    if year.isdigit() and name:
        tried += [(root / f"VOC{year}", name), (root / "VOCdevkit" / f"VOC{year}", name)]
    lists = [(folder, folder / "ImageSets" / kind / f"{name}.txt") for folder, name in tried]
    for folder, file in lists:
        if file.is_file():
            return folder, file
    lines = "\n".join(f"  {file}" for _, file in lists)
    raise FileNotFoundError(f"{root} has no VOC split '{split}'; tried\n{lines}")


class VocDataset(DetectionDataset):
    """A split of a Pascal VOC folder. See `DetectionDataset` for items, and `locate` for paths.

    Objects marked as difficult are treated like COCO's crowd regions: skipped by default, and
    detections of them count neither as right nor as wrong.

    Args:
        root: Folder of one year, or of the development kit.
        split: Such as `trainval`, or `2007_trainval`.
        transforms: Called as `transforms(image, target)`.
        crowd: Include difficult objects, flagged by `iscrowd`.
        masks: Include masks; only the images of the segmentation lists have them.
        on_bad: "raise" rejects a data set with problems, "skip" skips and counts them.
        limit: Use only the first `limit` images of the list.
        decode: Decode every image when checking.
        classes: Names of the categories, in label order.

    Raises:
        FileNotFoundError: No such list of images; the message lists the paths tried.
        ValueError: The list is not text in UTF-8.
        BadDataError: Problems were found and `on_bad` is "raise".
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "trainval",
        transforms: Callable[..., Any] | None = None,
        *,
        crowd: bool = False,
        masks: bool = False,
        on_bad: str = "raise",
        limit: int | None = None,
        decode: bool = False,
        classes: Sequence[str] = CLASSES,
    ) -> None:
        self.folder, list_file = locate(root, split, masks)
        stems = _read_list(list_file)
        table, problems = read_table(self.folder, stems[:limit], masks, decode, classes)
        super().__init__(table, problems, str(list_file), transforms, crowd, masks, on_bad)


def read_table(
    folder: Path, stems: Sequence[str], masks: bool, decode: bool, classes: Sequence[str]
) -> tuple[Table, list[DataProblem]]:
    """Checks the images and XML files of the given names, and keeps what is valid.

    Args:
        folder: A year's folder.
        stems: Names without suffix. If all are numbers, they are the images' ids.
        masks: Whether to read `SegmentationObject` too.
        decode: Decode every image.
        classes: Names of the categories.

    Returns:
        The table of what is valid, and the problems of the rest.
    """
    problems: list[DataProblem] = []
    labels = {name: label for label, name in enumerate(classes, start=1)}
    listed = Counter(stems)
    for stem in [stem for stem, times in listed.items() if times > 1]:
        what = f"listed {listed[stem]} times"
        problems.append(DataProblem("duplicate image id", f"image {stem}", what))
    entries = []
    for stem, image_id in zip(listed, _image_ids(list(listed)), strict=True):
        root = _parse(folder / "Annotations" / f"{stem}.xml", image_id, problems)
        if root is not None:
            size = (int(root.findtext("size/width", "")), int(root.findtext("size/height", "")))
            entries.append((image_id, stem, size, root.findall("object")))

    files = [(folder / "JPEGImages" / f"{stem}.jpg", size) for _, stem, size, _ in entries]
    builder = TableBuilder(list(range(1, len(labels) + 1)), list(classes))
    errors = probe_all(files, decode)
    for (image_id, stem, size, objects), (path, _), error in zip(
        entries, files, errors, strict=True
    ):
        if error is not None:
            problems.append(DataProblem(error.kind, f"image {stem}", str(error), image_id))
            continue
        owners = _read_owners(folder, stem, size, image_id, problems) if masks else None
        if masks and owners is None:
            continue
        good: list[Annotation] = []
        for number, element in enumerate(objects, start=1):
            annotation_id = len(builder.annotations) + len(good) + 1
            found, faults = _read_object(element, number, annotation_id, size, labels, owners)
            good += found
            where = f"object {number} of image {stem}"
            problems += [DataProblem(kind, where, what, image_id, number) for kind, what in faults]
        builder.add(image_id, str(path), size, good)
    return builder.build(), problems


def _read_list(path: Path) -> list[str]:
    """Returns the names in a list of images; a second column, of a class's lists, is dropped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8: {error}") from None
    return [line.split()[0] for line in lines if line.strip()]


def _image_ids(stems: Sequence[str]) -> Sequence[int]:
    """Returns the names as numbers if all are numbers of 64 bits, else their places from 1."""
    digits = [stem.replace("_", "") for stem in stems]
    if all(part.isascii() and part.isdigit() and len(part) <= MAX_DIGITS for part in digits):
        ids = [int(part) for part in digits]
        if len(set(ids)) == len(ids):
            return ids
    return range(1, len(stems) + 1)


def _parse(path: Path, image_id: int, problems: list[DataProblem]) -> ElementTree.Element | None:
    """Returns the root of an XML file with a size; otherwise adds a problem and returns None."""
    kind = "invalid image entry"
    try:
        root = _read_xml(path)
        sides = [int(root.findtext(f"size/{side}", "")) for side in ("width", "height")]
        if min(sides) > 0:
            return root
        what = f"{path}: size is {' x '.join(map(reprlib.repr, sides))}"
    except FileNotFoundError:
        kind, what = "missing annotation file", f"no file {path}"
    except OSError as error:
        what = f"{path}: cannot be read: {error.strerror}"
    except _XmlError as error:
        what = f"{path}: not XML: {error}"
    except ValueError:
        what = f"{path}: no width and height in whole pixels"
    problems.append(DataProblem(kind, f"image {path.stem}", what, image_id))
    return None


class _XmlError(Exception):
    """A file that is no XML, or XML that asks for more than a description of objects needs."""


def _read_xml(path: Path) -> ElementTree.Element:
    if path.exists() and not path.is_file():
        raise _XmlError("not a regular file")
    content = path.read_bytes()
    if b"<!ENTITY" in content:  # these can expand to gigabytes
        raise _XmlError("it declares entities")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # also unknown encodings
        raise _XmlError(error) from None


def _read_owners(
    folder: Path, stem: str, size: tuple[int, int], image_id: int, problems: list[DataProblem]
) -> np.ndarray | None:
    """Returns each pixel's object number, from 1 in the order of the XML, or None and a problem."""
    path = folder / "SegmentationObject" / f"{stem}.png"
    ((error),) = probe_all([(path, size)], decode=True)
    if error is None:
        with Image.open(path) as image:
            if image.mode in ("P", "L") and image.size == size:
                return np.asarray(image)
        got = "{}, {} x {}".format(image.mode, *image.size)
        error = BadImageError(f"{path}: wanted a palette image of object numbers, mode is {got}")
    problems.append(DataProblem("missing mask", f"image {stem}", str(error), image_id))
    return None


def _read_object(
    element: ElementTree.Element,
    number: int,
    annotation_id: int,
    size: tuple[int, int],
    labels: dict[str, int],
    owners: np.ndarray | None,
) -> tuple[list[Annotation], list[Fault]]:
    """Returns the annotation, in a list that is empty if it is unusable, and its faults.

    An object without a mask where masks are required becomes a region to ignore, its box.
    """
    name = element.findtext("name", "").strip()
    if not name:
        return [], [("invalid annotation", "has no name")]
    if name not in labels:
        what = f"category '{name[:60]}' is not among {', '.join(labels)}"
        return [], [("unknown category", what)]
    try:
        x0, y0, x1, y1 = (
            float(element.findtext(f"bndbox/{side}", ""))
            for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError:
        return [], [("invalid annotation", "no box of four numbers")]
    if not finite([x0, y0, x1, y1]):
        what = f"wanted a box of four finite numbers, got {[x0, y0, x1, y1]}"
        return [], [("invalid annotation", what)]
    # VOC counts pixels from 1 and boxes hold their last one.
    box = (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1)
    fault = box_fault(box, size)
    if fault is not None:
        return [], [fault]
    difficult = element.findtext("difficult", "").strip().lower()
    if difficult not in FLAGS:
        what = f"difficult: wanted 0 or 1, got {difficult[:60]!r}"
        return [], [("invalid annotation", what)]
    found = Annotation(annotation_id, labels[name], box, box[2] * box[3], FLAGS[difficult])
    if owners is None:
        return [found], []
    mask = np.asfortranarray(owners == number, np.uint8)
    if not mask.any():
        found.code, found.crowd = box_code(box, size), True
        return [found], [("empty mask", f"no pixel of SegmentationObject is {number}")]
    found.area, found.code = float(mask.sum()), coco_mask.encode(mask)["counts"]
    return [found], []
