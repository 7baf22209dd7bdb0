# SPDX-License-Identifier: BSD-3-Clause
"""Writes a data set in any format as a COCO folder, which every tool of the field reads."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dcnv2.data.annotations import count_text
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.folders import find_splits, open_dataset
from dcnv2.data.whole_files import replacing


def convert_to_coco(
    source: str | Path, target: str | Path, splits: Sequence[str] = (), on_bad: str = "raise"
) -> Iterator[str]:
    """Writes `annotations/instances_<split>.json` and `images/<split>/` for each split.

    Pictures are hard links where the file system allows it, so that they take no space, and copies
    elsewhere. Polygons stay polygons. Ids of categories and images, and names of files, are kept;
    files of one name from several folders get a number.

    Args:
        source: As of `open_dataset`.
        target: A new or empty folder.
        splits: By default all.
        on_bad: "raise" stops at problems, "skip" leaves out what has them.

    Yields:
        For each split what was written.

    Raises:
        FileExistsError: `target` is not empty.
        BadDataError: Problems were found and `on_bad` is "raise".
        ValueError: A split has no images, or none is left. Nothing is written then.
    """
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target}: wanted a new or empty folder")
    opened = []
    for split in splits or find_splits(source):
        kept: dict[int, Any] = {}
        dataset = open_dataset(source, split, masks=None, on_bad=on_bad, segmentations=kept)
        if not len(dataset):
            raise ValueError(
                f"{source}: split {split} has no images to write ({count_text(dataset.problems)})"
            )
        opened.append((split, dataset, kept))
    for split, dataset, segmentations in opened:
        name = _plain_name(split)
        folder = target / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        files = [_place(Path(file), folder) for file in dataset.table.files]
        path = target / "annotations" / f"instances_{name}.json"
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as aside:
            aside.write_text(json.dumps(_document(dataset, files, segmentations)))
        lines = [f"{path}: {len(files)} images, {len(dataset.table.ids)} annotations"]
        if dataset.problems:
            lines.append(f"{split}: left out: {count_text(dataset.problems)}")
        yield "\n".join(lines + [f"{split}: note: {note}" for note in dataset.notes])


def _plain_name(split: str) -> str:
    """Returns the name of a split for files: of a path its last part, of a function its name."""
    stem = Path(split).stem.removeprefix("instances_").rpartition(":")[2]
    return re.sub(r"[^\w.-]", "_", stem)


def _place(file: Path, folder: Path) -> str:
    """Links or copies a picture into a folder; returns its name there."""
    name, number = file.name, 1
    while (folder / name).exists():
        number += 1
        name = f"{file.stem}_{number}{file.suffix}"
    try:
        os.link(file.resolve(), folder / name)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, folder / name)
    return name


def _document(
    dataset: DetectionDataset, files: Sequence[str], segmentations: dict[int, Any]
) -> dict[str, Any]:
    table = dataset.table
    sizes, owners = table.sizes.tolist(), table.owners().tolist()
    images = [
        {"id": image_id, "file_name": file, "width": width, "height": height}
        for image_id, file, (width, height) in zip(
            table.image_ids.tolist(), files, sizes, strict=True
        )
    ]
    annotations = []
    for row, (number, owner) in enumerate(zip(table.ids.tolist(), owners, strict=True)):
        annotations.append(
            {
                "id": number,
                "image_id": int(table.image_ids[owner]),
                "category_id": table.category_ids[table.labels[row] - 1],
                "bbox": table.boxes[row].tolist(),
                "area": float(table.areas[row]),
                "iscrowd": int(table.crowd[row]),
                "segmentation": _plain_runs(segmentations.get(number, [])),
            }
        )
    pairs = zip(table.category_ids, table.names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in pairs]
    return {"images": images, "annotations": annotations, "categories": categories}


def _plain_runs(segmentation: Any) -> Any:
    """Returns a segmentation as JSON has it: pycocotools makes run lengths as bytes."""
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], bytes):
        return {**segmentation, "counts": segmentation["counts"].decode("ascii")}
    return segmentation
