# SPDX-License-Identifier: BSD-3-Clause
"""Detects the format and the splits of a data folder, and summarises their problems."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dcnv2.data.coco import SPLITS, CocoDataset, coco_splits, locate
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.formats.cvat import FILE as CVAT_FILE
from dcnv2.data.formats.cvat import cvat_splits, read_cvat
from dcnv2.data.formats.label_studio import label_studio_splits, read_label_studio
from dcnv2.data.formats.likeness import folder_likeness
from dcnv2.data.formats.python_source import SPEC, read_source
from dcnv2.data.formats.records import RecordDataset, Split
from dcnv2.data.formats.voc import read_voc
from dcnv2.data.formats.voc_layout import voc_splits
from dcnv2.data.formats.yolo import read_yolo
from dcnv2.data.formats.yolo_layout import absent_splits, yolo_splits
from dcnv2.data.set_checks import set_problems

SMALL_AREA, LARGE_AREA = 32**2, 96**2
"""COCO's bounds between small, medium and large objects, in square pixels."""


@dataclass(frozen=True)
class Format:
    """A format of data sets.

    Attributes:
        name: for messages.
        splits: returns the names of a folder's splits, none if it has another format.
        read: reads a split; None if `CocoDataset` does.
        absent: returns the splits that the folder's description names without having them.
    """

    name: str
    splits: Callable[[Path], Iterable[str]]
    read: Callable[[Path, str, bool, int | None], Split] | None = None
    absent: Callable[[Path], Iterable[str]] = field(default=lambda root: ())


FORMATS = (
    Format("COCO", coco_splits),
    Format("CVAT", cvat_splits, read_cvat),
    Format("Label Studio", label_studio_splits, read_label_studio),
    Format("Pascal VOC", voc_splits, read_voc),
    Format("YOLO", yolo_splits, read_yolo, absent_splits),
)
"""The formats of folders; one with files of several formats is taken as the first of them."""
ALIASES = {"val": ("valid", "validation"), "valid": ("val",), "validation": ("val", "valid")}
"""Other names of a split, which tools give it."""


def find_format(root: Path) -> tuple[Format, list[str]]:
    """Returns the format of a folder, and the names of its splits.

    Raises:
        FileNotFoundError: It has none; the message says what it looks like.
        ValueError: The file that describes it is damaged.
    """
    for entry in FORMATS if root.is_dir() else ():
        splits = sorted(entry.splits(root))
        if splits:
            return entry, splits
    wanted = ", ".join(entry.name for entry in FORMATS)
    raise FileNotFoundError(
        f"{root} is no data set in the format of {wanted}{folder_likeness(root)}"
    )


def find_splits(root: str | Path) -> list[str]:
    """Returns the splits of a folder, or the function of `package.module:function`, for
    `open_dataset`.

    Raises:
        FileNotFoundError: The folder has none.
    """
    if SPEC.fullmatch(str(root)) and not Path(root).exists():
        return [str(root)]
    folder = _folder(root)
    entry, splits = find_format(folder)
    absent = set(entry.absent(folder))
    return [split for split in splits if split not in absent] or splits


def open_dataset(
    root: str | Path,
    split: str,
    transforms: Callable[..., Any] | None = None,
    *,
    masks: bool | None = True,
    limit: int | None = None,
    **options: Any,
) -> DetectionDataset:
    """Opens a split of a folder in any of `FORMATS`, or a data set from Python.

    Args:
        root: The folder, or the file in it that describes it, such as `data.yaml`.
        split: Name of a split; a path of a COCO file; or `package.module:function`, whose result
            is a `DataSource`.
        transforms: Called as `transforms(image, target)`.
        masks: As of `RecordDataset`.
        limit: Use only this many images.
        options: As of `RecordDataset`.

    Raises:
        FileNotFoundError: There is no such split; the message lists those that there are.
        ValueError: A file that describes the data set is damaged.
        BadDataError: Problems were found and `on_bad` is "raise".
    """
    root = _folder(root)
    if SPEC.fullmatch(split):
        read = read_source(split, bool(masks), limit)
        return RecordDataset(read, transforms, masks=masks, **options)
    is_file = split.endswith(".json")
    entry, splits = (FORMATS[0], [split]) if is_file else find_format(root)
    names = [split, *ALIASES.get(split, ())]
    if entry.read is None:
        if not is_file and not any(name in splits for name in (*names, *SPLITS.get(split, ()))):
            _locate_or_list(root, split, entry, splits)
        return CocoDataset(root, split, transforms, masks=masks, limit=limit, **options)
    name = next((name for name in names if name in splits), None)
    if name is None:
        raise FileNotFoundError(_no_split(root, split, entry, splits))
    read = entry.read(root, name, bool(masks), limit)
    return RecordDataset(read, transforms, masks=masks, **options)


def open_to_look(
    root: str | Path, split: str, masks: bool, decode: bool = True
) -> DetectionDataset:
    """Opens a split without its bad images and annotations; without masks if no object has one."""
    options: dict[str, Any] = {"on_bad": "skip", "decode": decode}
    dataset = open_dataset(root, split, masks=masks, **options)
    lacking = dataset.skipped["missing mask"]
    if masks and lacking and dataset.table.crowd.all() and lacking == len(dataset.table.ids):
        dataset = open_dataset(root, split, masks=False, **options)
        dataset.notes.append("no object has a mask: train with --model.mask.enabled=false")
    return dataset


def _locate_or_list(root: Path, split: str, entry: Format, splits: list[str]) -> None:
    """Raises with the splits that there are, unless COCO's folder has one that is not listed."""
    try:
        locate(root, split)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{_no_split(root, split, entry, splits)}; {error}") from None


def _no_split(root: Path, split: str, entry: Format, splits: list[str]) -> str:
    return f"{root} (format: {entry.name}) has no split '{split}', but {', '.join(splits)}"


def _folder(root: str | Path) -> Path:
    """Returns a folder, or that of the file that describes it."""
    path = Path(root)
    is_description = path.name == CVAT_FILE or path.suffix in (".yaml", ".yml")
    return path.parent if is_description and path.is_file() else path


@dataclass
class Report:
    """The result of `inspect`, as tables.

    Attributes:
        splits: A row a split: images, images without objects, objects, crowd regions, boxes that
            stick out of their image (they are clipped), and problems.
        classes: A row a split and class: objects, their share, images, small, medium, large.
        problems: A row a problem: split, kind, image_id, annotation_id, where, what.
    """

    splits: pd.DataFrame
    classes: pd.DataFrame
    problems: pd.DataFrame


def inspect(datasets: Mapping[str, DetectionDataset]) -> Report:
    """Summarises data sets opened with `on_bad="skip"`, each under the name of its split."""
    found = {split: data.problems + set_problems(data) for split, data in datasets.items()}
    problems = [
        {"split": split, **vars(problem)} for split, part in found.items() for problem in part
    ]
    columns = ["split", "kind", "where", "what", "image_id", "annotation_id"]
    frame = pd.DataFrame(problems, columns=columns, dtype=object)
    for name in ("image_id", "annotation_id"):  # by way of float64, large ids would be rounded
        frame[name] = pd.array(frame[name].tolist(), "Int64")
    return Report(
        splits=pd.DataFrame(
            [
                {**_split_row(split, data), "problems": len(found[split])}
                for split, data in datasets.items()
            ]
        ),
        classes=pd.concat(
            [_class_rows(split, data) for split, data in datasets.items()], ignore_index=True
        ),
        problems=frame,
    )


def _split_row(split: str, dataset: DetectionDataset) -> dict[str, Any]:
    table = dataset.table
    owner = table.owners()
    far = table.boxes[:, :2] + table.boxes[:, 2:]
    # COCO rounds boxes to 0.01 pixel, which takes some that much past the border.
    outside = (table.boxes[:, :2] < -0.5) | (far > table.sizes[owner] + 0.5)
    return {
        "split": split,
        "images": len(dataset),
        "without_objects": len(dataset) - len(np.unique(owner[~table.crowd])),
        "objects": int((~table.crowd).sum()),
        "crowds": int(table.crowd.sum()),
        "boxes_sticking_out": int(outside.any(axis=1).sum()),
    }


def _class_rows(split: str, dataset: DetectionDataset) -> pd.DataFrame:
    table = dataset.table
    keep = ~table.crowd
    objects = pd.DataFrame(
        {
            "class": pd.Categorical.from_codes(
                table.labels[keep] - 1, categories=pd.Index(table.names)
            ),
            "image": table.owners()[keep],
            "size": pd.cut(
                table.areas[keep],
                [-np.inf, SMALL_AREA, LARGE_AREA, np.inf],
                right=False,
                labels=["small", "medium", "large"],
            ),
        }
    )
    by_class = objects.groupby("class", observed=False)
    counts = by_class.size()
    rows = pd.DataFrame({"objects": counts, "share": counts / max(len(objects), 1)})
    rows["images"] = by_class["image"].nunique()
    sizes = pd.crosstab(objects["class"], objects["size"], dropna=False)
    rows = rows.join(sizes.reindex(index=rows.index, columns=sizes.columns, fill_value=0))
    rows = rows.reset_index()
    rows.insert(0, "split", split)
    return rows
