# SPDX-License-Identifier: BSD-3-Clause
"""COCO folders: the 2014 and 2017 layouts, and those of CVAT, Roboflow and Label Studio."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from dcnv2.data.annotations import (
    Annotation,
    DataProblem,
    Fault,
    Table,
    TableBuilder,
    box_fault,
)
from dcnv2.data.coco_fields import (
    ANNOTATION,
    IMAGE,
    entry_name,
    id_in,
    load_document,
    read_fields,
)
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.formats.files import find_picture
from dcnv2.data.images import probe_all
from dcnv2.data.polygons import finite, turned_box
from dcnv2.data.segmentation import box_code, encode

SPLITS = {
    "train": ("train", "train2017", "train2014"),
    "val": ("val", "val2017", "val2014", "valid"),
    "valid": ("valid", "val"),
    "minival": ("minival", "minival2014"),
    "valminusminival": ("valminusminival", "valminusminival2014"),
}
"""Short names of splits -> the file names to try, in this order."""
ROBOFLOW = "_annotations.coco.json"
"""Name of the annotation file in a split's folder, next to the pictures, as Roboflow exports it."""


def coco_splits(root: Path) -> list[str]:
    """Returns the splits of a folder, or the paths of its JSON files; none if it has neither."""
    names = [f.stem.removeprefix("instances_") for f in root.glob("annotations/instances_*.json")]
    names = names or [file.parent.name for file in root.glob(f"*/{ROBOFLOW}")]
    if not names:  # Label Studio's is result.json
        files = [*root.glob("annotations/*.json"), *root.glob("*.json")]
        names = [str(file.relative_to(root)) for file in files if _has_lists(file)]
    return sorted(names)


def _has_lists(path: Path) -> bool:
    """Whether a JSON file names COCO's lists."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    return all(f'"{key}"'.encode() in content for key in ("images", "categories", "annotations"))


def locate(root: str | Path, split: str) -> tuple[Path, Path]:
    """Finds the images and annotations of a split.

    Annotations are `annotations/instances_<name>.json`, or `image_info_<name>.json` for test sets;
    or `<name>/_annotations.coco.json`, next to the images.
    Images are in `images/<name>`, `<name>` or `images`; for minival and valminusminival also in the
    year's `val`. For other layouts, `split` is the path of an annotation file, absolute or relative
    to `root`, whose file names are relative to `root` or to its `images`.

    Args:
        root: Folder of the data set.
        split: A key of SPLITS, a name as in the files such as `train2017`, or a path to a JSON.

    Returns:
        Folder of the images, and annotation file.

    Raises:
        FileNotFoundError: Nothing was found; the message lists the paths that were tried.
    """
    root = Path(root)
    if str(split).endswith(".json"):
        tried = [root / split, Path(split)]
        return root, _first(tried, Path.is_file, f"{split}: no such annotation file")
    names = SPLITS.get(split, (split,))
    for name in names:
        if (root / name / ROBOFLOW).is_file():
            return root / name, root / name / ROBOFLOW
    files = [
        root / "annotations" / f"{prefix}_{name}.json"
        for name in names
        for prefix in ("instances", "image_info")
    ]
    file = _first(files, Path.is_file, f"{root} has no annotations of split '{split}'")
    name = file.stem.removeprefix("instances_").removeprefix("image_info_")
    folders = [name]
    if "minival" in name:
        folders += ["val2014", "val2017", "val"]
    if name.startswith("test-dev"):
        folders.append(name.replace("-dev", ""))
    tried = [root / parent / folder for folder in folders for parent in ("images", ".")]
    tried.append(root / "images")  # as CVAT exports it
    return _first(tried, Path.is_dir, f"{root} has no images of split '{split}'"), file


def _first(paths: list[Path], found: Callable[[Path], bool], message: str) -> Path:
    for path in paths:
        if found(path):
            return path
    tried = "\n".join(f"  {path}" for path in paths)
    raise FileNotFoundError(f"{message}; tried\n{tried}")


class CocoDataset(DetectionDataset):
    """A split of a COCO folder. See `DetectionDataset` for items and attributes, and `locate`.

    Every field that is used is checked, see `dcnv2.data.coco_fields`. An `area` that is absent or
    null is that of the box, and an absent or null `iscrowd` is 0.

    Args:
        root: Folder of the data set.
        split: Name of the split, or path of an annotation file.
        transforms: Called as `transforms(image, target)`.
        crowd: Include crowd regions, flagged by `iscrowd`.
        masks: Include masks; otherwise segmentations are not read. None is for conversion, see
            `read_table`.
        on_bad: "raise" rejects a data set with problems, "skip" skips and counts them.
        limit: Use only this many images of the file, the first by id.
        decode: Decode every image when checking, not just its header and end.
        segmentations: See `read_table`.

    Raises:
        FileNotFoundError: No annotation file or image folder; the message lists the paths tried.
        ValueError: The file is no COCO annotation file, see `load_document`.
        BadDataError: Problems were found and `on_bad` is "raise".
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        crowd: bool = False,
        masks: bool | None = True,
        on_bad: str = "raise",
        limit: int | None = None,
        decode: bool = False,
        segmentations: dict[int, Any] | None = None,
    ) -> None:
        self.folder, self.annotation_file = locate(root, split)
        document = load_document(self.annotation_file)
        # Other tools write annotations/train.json for the pictures in train/.
        name = self.annotation_file.stem.removeprefix("instances_")
        parts = (".", "images", name, f"images/{name}")
        folders = [*(self.folder / part for part in parts), self.annotation_file.parent]
        table, problems = read_table(document, folders, masks, limit, decode, segmentations)
        source = str(self.annotation_file)
        super().__init__(table, problems, source, transforms, crowd, bool(masks), on_bad)


def find_cityscapes(images: list[dict[str, Any]], root: Path) -> None:
    """Adds the folder, one per split and city, to the names of Cityscapes images.

    Converters to COCO's format drop the folder: `ulm_000000_000019_leftImg8bit.png` is searched for
    in `root`, `images` and `leftImg8bit/{train,val,test}/ulm`.
    """
    for image in images:
        name = image["file_name"]
        if name.endswith("_leftImg8bit.png") and "/" not in name:
            city = name.partition("_")[0]
            folders = (f"leftImg8bit/{split}/{city}" for split in ("train", "val", "test"))
            for folder in (".", "images", *folders):
                if (root / folder / name).is_file():
                    image["file_name"] = f"{folder}/{name}"
                    break


def read_table(
    document: dict[str, Any],
    folders: Sequence[Path],
    masks: bool | None,
    limit: int | None = None,
    decode: bool = False,
    segmentations: dict[int, Any] | None = None,
) -> tuple[Table, list[DataProblem]]:
    """Checks a COCO document and its image files, and keeps what is valid.

    Annotations of invalid images are not checked.

    Args:
        document: As `load_document` returns it.
        folders: Where the images are searched for; Cityscapes' only below the first.
        masks: Whether annotations must have masks; None reads those that there are.
        limit: Use only this many images, the first by id.
        decode: Decode every image.
        segmentations: Receives the sound segmentations as annotated, by annotation id.

    Returns:
        The table of valid images and annotations by id, and the problems of the others.
    """
    problems: list[DataProblem] = []
    categories = sorted(document["categories"], key=lambda category: category["id"])
    labels = {category["id"]: k for k, category in enumerate(categories, start=1)}
    entries, known = _image_entries(document["images"], problems)
    find_cityscapes(entries, folders[0])
    entries = sorted(entries, key=lambda entry: entry["id"])[:limit]
    for entry in entries:
        entry["path"] = find_picture(folders, [entry["file_name"]])
    entries = _good_images(entries, decode, problems)
    sizes = {entry["id"]: (entry["width"], entry["height"]) for entry in entries}

    by_image: dict[int, list[Annotation]] = {image_id: [] for image_id in sizes}
    seen: set[int] = set()
    for index, raw in enumerate(document.get("annotations", [])):
        image_id = id_in(raw, "image_id")
        if image_id in known and image_id not in sizes:
            continue
        try:
            values = read_fields(raw, ANNOTATION)
            fault = _reference_fault(values, seen, sizes, labels)
        except ValueError as error:
            fault = ("invalid annotation", str(error))
        if fault is None:
            segmentation = raw.get("segmentation")
            if not segmentation and (angle := _rotation(raw)):
                outline = turned_box(values["bbox"], angle)
                segmentation, values["bbox"] = [outline], _box_around(outline)
            label, size = labels[values["category_id"]], sizes[values["image_id"]]
            good, faults = _read_annotation(values, segmentation, label, size, masks)
            by_image[values["image_id"]] += good
            if segmentations is not None and good and segmentation and not faults:
                segmentations[values["id"]] = segmentation
        else:
            faults = [fault]
        if faults:
            on_image = "" if image_id is None else f" on image {image_id}"
            where = entry_name("annotation", raw, index) + on_image
            number = id_in(raw, "id")
            problems += [DataProblem(kind, where, what, image_id, number) for kind, what in faults]

    builder = TableBuilder(list(labels), [category["name"] for category in categories])
    for entry in entries:
        image_id = entry["id"]
        builder.add(image_id, str(entry["path"]), sizes[image_id], by_image[image_id])
    return builder.build(), problems


def _image_entries(
    raw: Iterable[Any], problems: list[DataProblem]
) -> tuple[list[dict[str, Any]], set[int]]:
    """Returns the valid image entries of unique ids, and the ids of all entries."""
    entries: dict[int, dict[str, Any]] = {}
    known: set[int] = set()
    for index, entry in enumerate(raw):
        number = id_in(entry, "id")
        if number is not None:
            known.add(number)
        where = entry_name("image", entry, index)
        try:
            values = read_fields(entry, IMAGE)
        except ValueError as error:
            problems.append(DataProblem("invalid image entry", where, str(error), number))
            continue
        if values["id"] in entries:
            what = f"the id is that of {entries[values['id']]['file_name']}"
            where += f" ({values['file_name']})"
            problems.append(DataProblem("duplicate image id", where, what, number))
        else:
            entries[values["id"]] = values
    return list(entries.values()), known


def _good_images(
    entries: list[dict[str, Any]], decode: bool, problems: list[DataProblem]
) -> list[dict[str, Any]]:
    """Returns the entries whose files exist and are intact, and adds the problems of the others."""
    files = [(entry["path"], (entry["width"], entry["height"])) for entry in entries]
    faults = probe_all(files, decode)
    for entry, error in zip(entries, faults, strict=True):
        if error is not None:
            problems.append(
                DataProblem(error.kind, f"image {entry['id']}", str(error), entry["id"])
            )
    return [entry for entry, error in zip(entries, faults, strict=True) if error is None]


def _reference_fault(
    values: dict[str, Any],
    seen: set[int],
    sizes: dict[int, tuple[int, int]],
    labels: dict[int, int],
) -> Fault | None:
    """Returns what is wrong with the ids of an annotation, or None."""
    if values["id"] in seen:
        return "duplicate annotation id", "the id occurred before"
    seen.add(values["id"])
    if values["image_id"] not in sizes:
        return "unknown image", "the image is not listed"
    if values["category_id"] not in labels:
        known = ", ".join(str(i) for i in list(labels)[:12]) + (", ..." if len(labels) > 12 else "")
        return "unknown category", f"category {values['category_id']} is not among {known}"
    return None


def _rotation(raw: dict[str, Any]) -> float:
    """Returns the clockwise angle of a box in degrees, which CVAT exports as an attribute."""
    attributes = raw.get("attributes")
    angle: Any = attributes.get("rotation") if isinstance(attributes, dict) else None
    return angle % 360 if finite([angle]) else 0.0


def _box_around(outline: list[float]) -> tuple[float, float, float, float]:
    x, y = outline[::2], outline[1::2]
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def _read_annotation(
    values: dict[str, Any], segmentation: Any, label: int, size: tuple[int, int], masks: bool | None
) -> tuple[list[Annotation], list[Fault]]:
    """Returns the annotation, in a list that is empty if it is unusable, and its faults.

    An object that lacks a mask but should have one becomes a region to ignore, its box: left out,
    it would be background in training, and detections of it would count as wrong in evaluation.
    """
    box = values["bbox"]
    fault = box_fault(box, size)
    if fault is not None:
        return [], [fault]
    area = box[2] * box[3] if values["area"] is None else values["area"]
    found = Annotation(values["id"], label, box, area, bool(values["iscrowd"]))
    faults: list[Fault] = []
    if masks or (masks is None and segmentation):
        found.code, faults = encode(segmentation, size)
        if not found.code:
            found.code, found.crowd = box_code(box, size), True
    return [found], faults
