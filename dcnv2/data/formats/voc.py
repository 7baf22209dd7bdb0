# SPDX-License-Identifier: BSD-3-Clause
"""Pascal VOC's XML, of the challenges and as CVAT, Roboflow, Label Studio and labelImg write it."""

import math
import reprlib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from dcnv2.data.annotations import DataProblem
from dcnv2.data.formats.files import BadFileError, file_number, find_picture, number, read_xml
from dcnv2.data.formats.records import (
    ImageRecord,
    ObjectRecord,
    RecordDataset,
    Segmentations,
    Split,
)
from dcnv2.data.formats.voc_layout import YEAR, VocSplit, all_xml, find_voc, label_map
from dcnv2.data.images import SUFFIXES, BadImageError, probe_all, upright_size
from dcnv2.data.polygons import turned_box

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}
"""What `difficult` may be, in lower case."""
TURNED = ("cx", "cy", "w", "h", "angle")
"""Fields of roLabelImg's boxes: centre, sides, and the clockwise angle in radians."""
MAX_DIGITS = 18
"""Numbers of more digits may not fit 64 bits."""


class VocDataset(RecordDataset):
    """A split of a folder in VOC's format. See `RecordDataset`, and `find_voc` for paths.

    Objects marked as difficult are treated like COCO's crowd regions: skipped by default, and
    detections of them count neither as right nor as wrong.

    Args:
        root: Folder of one year, of the development kit, or of XML files.
        split: Such as `trainval`, or `2007_trainval`.
        transforms: As of `RecordDataset`.
        masks: Include masks; only the images of the segmentation lists have them.
        limit: Use only the first `limit` images of the list.
        classes: Names of the categories in label order; None as `read_voc` finds them.
        options: As of `RecordDataset`.

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
        masks: bool | None = False,
        limit: int | None = None,
        classes: Sequence[str] | None = None,
        segmentations: Segmentations | None = None,
        **options: Any,
    ) -> None:
        read = read_voc(Path(root), split, bool(masks), limit, classes)
        super().__init__(read, transforms, masks=masks, segmentations=segmentations, **options)


def read_voc(
    root: Path,
    split: str,
    masks: bool,
    limit: int | None = None,
    classes: Sequence[str] | None = None,
) -> Split:
    """Reads a split; see `VocDataset`.

    Without `classes`, they are those of CVAT's `labelmap.txt`; else VOC's own 20, if the folder is
    named as a year's and has no others; else the names in all XML files, sorted.
    """
    found = find_voc(root, split, masks)
    result = Split([], [], str(found.source))
    listed = Counter(found.stems)
    for stem in [stem for stem, times in listed.items() if times > 1]:
        what = f"listed {listed[stem]} times"
        result.problems.append(DataProblem("duplicate image id", f"image {stem}", what))
    stems = list(listed)[:limit]
    for stem, image_id in zip(stems, _image_ids(stems), strict=True):
        image = _read_image(found, stem, image_id, masks, result.problems)
        if image is not None:
            result.images.append(image)
    if found.source.is_dir():  # otherwise a list says which pictures there are
        result.notes += _without_xml(found, stems, {image.file for image in result.images})
    used = {entry.name for image in result.images for entry in image.objects}
    result.names = classes or label_map(found.folder) or _classes(found, used)
    return result


def _without_xml(found: VocSplit, stems: Sequence[str], used: set[Path]) -> Iterator[str]:
    """Yields a note on pictures next to those of the set for which there is no XML file."""
    names = {Path(stem).name for stem in stems}
    beside = {path for folder in {file.parent for file in used} for path in folder.glob("*.*")}
    unused = sorted(p for p in beside - used if p.suffix.lower() in SUFFIXES)
    if lacking := [p for p in unused if p.stem not in names and not p.name.startswith(".")]:
        yield f"{file_number(lacking)}, without an XML file: left out"


def _classes(found: VocSplit, used: set[str]) -> Sequence[str]:
    if YEAR.fullmatch(found.folder.resolve().name) and used <= set(CLASSES):
        return CLASSES
    for path in all_xml(found):
        try:
            used |= {e.findtext("name", "").strip() for e in read_xml(path).findall("object")}
        except (BadFileError, OSError):  # reported with the split that lists it
            continue
    return sorted(used - {""})


def _image_ids(stems: Sequence[str]) -> Sequence[int]:
    """Returns the names as numbers if all are numbers of 64 bits, else their places from 1."""
    digits = [stem.replace("_", "") for stem in stems]
    if all(part.isascii() and part.isdigit() and len(part) <= MAX_DIGITS for part in digits):
        ids = [int(part) for part in digits]
        if len(set(ids)) == len(ids):
            return ids
    return range(1, len(stems) + 1)


def _read_image(
    found: VocSplit, stem: str, image_id: int, masks: bool, problems: list[DataProblem]
) -> ImageRecord | None:
    """Returns what an XML file describes; if it is unusable, adds a problem and returns None."""
    kind, path, where = "invalid image entry", found.xml / f"{stem}.xml", f"image {stem}"
    try:
        root = read_xml(path)
        if root.tag != "annotation":
            raise BadFileError(f"not VOC's XML: wanted <annotation>, got <{root.tag[:60]}>")
        picture = _find_picture(found, stem, path, root)
        size = _size(root, picture)
    except FileNotFoundError:
        problems.append(DataProblem("missing annotation file", where, f"no file {path}", image_id))
        return None
    except BadFileError as error:
        problems.append(DataProblem(kind, where, f"{path}: {error}", image_id))
        return None
    except BadImageError as error:
        problems.append(DataProblem(error.kind, where, str(error), image_id))
        return None
    except ValueError:
        what = f"{path}: no width and height in whole pixels"
        problems.append(DataProblem(kind, where, what, image_id))
        return None
    try:
        owners = _read_owners(found.folder, stem, size) if masks else None
    except BadImageError as error:
        problems.append(DataProblem("missing mask", where, str(error), image_id))
        return None
    objects = []
    for place, element in enumerate(root.findall("object"), start=1):
        try:
            objects.append(_read_object(element, place, owners))
        except ValueError as error:
            at = f"object {place} of {where}"
            problems.append(DataProblem("invalid annotation", at, str(error), image_id, place))
    return ImageRecord(picture, where, size, objects, image_id)


def _find_picture(found: VocSplit, stem: str, xml: Path, root: ElementTree.Element) -> Path:
    named = [root.findtext("filename", "").strip(), stem]
    folders = [found.folder / name for name in ("JPEGImages", "images", "Images")]
    # The list of an export may name images of a folder; its XML file and picture are in two such.
    folders = [f for f in folders if f.is_dir()] + [xml.parent, found.folder]
    nested = [folder / Path(stem).parent for folder in folders]
    return find_picture([*nested, *folders], [name for name in named if name])


def _size(root: ElementTree.Element, picture: Path) -> tuple[int, int]:
    """Returns width and height; those of the picture if the file has none, or zeros.

    Raises:
        BadFileError: they are negative.
        BadImageError: the picture has to be read, but is missing or damaged.
        ValueError: they are no whole numbers.
    """
    texts = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    if set(texts) <= {"", "0"}:
        return upright_size(picture)
    width, height = map(int, texts)
    if min(width, height) <= 0:
        raise BadFileError(f"size is {reprlib.repr(width)} x {reprlib.repr(height)}")
    return width, height


def _read_owners(folder: Path, stem: str, size: tuple[int, int]) -> np.ndarray | None:
    """Returns each pixel's object number, from 1 in the order of the XML; None without masks.

    Raises:
        BadImageError: The image's file is missing or of another kind.
    """
    path = folder / "SegmentationObject" / f"{stem}.png"
    if not path.parent.is_dir():
        return None
    ((error),) = probe_all([(path, size)], decode=True)
    if error is not None:
        raise error
    with Image.open(path) as image:
        if image.mode in ("P", "L") and image.size == size:
            return np.asarray(image)
        got = "{}, {} x {}".format(image.mode, *image.size)
    raise BadImageError(f"{path}: wanted a palette image of object numbers, mode is {got}")


def _read_object(
    element: ElementTree.Element, place: int, owners: np.ndarray | None
) -> ObjectRecord:
    """Returns an object; raises ValueError if it has no class or box."""
    name = element.findtext("name", "").strip()
    if not name:
        raise ValueError("has no name")
    box: tuple[float, float, float, float] | None = None
    segmentation: Any = None
    if element.find("robndbox") is not None:
        x, y, width, height, angle = _numbers(element, "robndbox", TURNED)
        sides = (x - width / 2, y - height / 2, width, height)
        segmentation = [turned_box(sides, math.degrees(angle))]
    else:
        x0, y0, x1, y1 = _numbers(element, "bndbox", ("xmin", "ymin", "xmax", "ymax"))
        # VOC counts pixels from 1 and boxes hold their last one.
        box = (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1)
        if angle := _rotation(element):
            segmentation, box = [turned_box(box, angle)], None
    polygon = element.find("polygon")
    if polygon is not None and len(polygon):
        segmentation = [_numbers(element, "polygon", [point.tag for point in polygon])]
    difficult = element.findtext("difficult", "").strip().lower()
    if difficult not in FLAGS:
        raise ValueError(f"difficult: wanted 0 or 1, got {difficult[:60]!r}")
    if owners is not None:
        segmentation = coco_mask.encode(np.asfortranarray(owners == place, np.uint8))
    crowd = FLAGS[difficult]
    return ObjectRecord(f"object {place}", name, box, segmentation, crowd, place)


def _rotation(element: ElementTree.Element) -> float:
    """Returns the clockwise angle of a box in degrees, which CVAT exports as an attribute."""
    for attribute in element.iterfind("attributes/attribute"):
        if attribute.findtext("name", "").strip() == "rotation":
            (angle,) = _numbers(attribute, ".", ["value"])
            return angle % 360
    return 0.0


def _numbers(element: ElementTree.Element, parent: str, tags: Sequence[str]) -> list[float]:
    """Returns the numbers of an object's box or polygon, in the order of their tags."""
    texts = [element.findtext(f"{parent}/{tag}", "") for tag in tags]
    try:
        return [number(text) for text in texts]
    except ValueError:
        got = reprlib.repr([text.strip() for text in texts])
        what = "a box of four" if parent == "bndbox" else f"a {parent} of"
        raise ValueError(f"wanted {what} finite numbers, got {got}") from None
