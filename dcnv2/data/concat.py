# SPDX-License-Identifier: BSD-3-Clause
"""Several data sets as one, and one as several: concatenation, and COCO's 2014 minival."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcnv2.data.annotations import Table
from dcnv2.data.coco import locate
from dcnv2.data.coco_fields import id_in, load_document
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.whole_files import replacing

MINIVAL = Path(__file__).parent / "minival2014.txt"


def concatenate(datasets: Sequence[DetectionDataset]) -> DetectionDataset:
    """Joins sets with the same categories; images keep their order, and their ids if they can.

    Where two sets use an id, all images are numbered anew from 1. Transforms and the choice of
    masks and crowd regions are those of the first set, and must be alike.

    Raises:
        ValueError: categories differ, or masks are in some sets only.
    """
    first = datasets[0]
    for other in datasets[1:]:
        if other.names != first.names:
            raise ValueError(
                f"{other.source} has the categories {', '.join(other.names)}, but {first.source} "
                f"has {', '.join(first.names)}"
            )
        if (other.masks, other.crowd) != (first.masks, first.crowd):
            raise ValueError(f"{other.source} and {first.source} must both have masks, or neither")
    tables = [dataset.table for dataset in datasets]
    ids = np.concatenate([table.image_ids for table in tables])
    if len(np.unique(ids)) < len(ids):
        ids = np.arange(1, len(ids) + 1)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(table, name) for table in tables])

    def running(name: str, sizes: Sequence[int]) -> list[np.ndarray]:
        starts = np.cumsum([0, *sizes[:-1]])
        return [getattr(t, name) + start for t, start in zip(tables, starts, strict=True)]

    first_rows = running("first", [len(table.ids) for table in tables])
    table = Table(
        category_ids=first.category_ids,
        names=first.names,
        image_ids=ids,
        files=[file for table in tables for file in table.files],
        sizes=joined("sizes"),
        first=np.concatenate([*(rows[:-1] for rows in first_rows), first_rows[-1][-1:]]),
        ids=np.arange(1, sum(len(table.ids) for table in tables) + 1),
        labels=joined("labels"),
        boxes=joined("boxes"),
        areas=joined("areas"),
        crowd=joined("crowd"),
        codes=b"".join(table.codes for table in tables),
        ends=np.concatenate(running("ends", [len(table.codes) for table in tables])),
    )
    return DetectionDataset(
        table,
        [problem for dataset in datasets for problem in dataset.problems],
        " + ".join(dataset.source for dataset in datasets),
        first.transforms,
        first.crowd,
        first.masks,
        "skip",
    )


def write_minival(root: str | Path) -> list[Path]:
    """Splits COCO's val2014 annotations: the 5,000 images of val2017, and the 35,504 others.

    `instances_minival2014.json` and `instances_valminusminival2014.json` are written next to
    `instances_val2014.json`; images stay where they are.

    Args:
        root: Folder of COCO.

    Returns:
        Both files.

    Raises:
        FileNotFoundError: There are no annotations of val2014.
        ValueError: They lack images of val2017.
    """
    _, source = locate(root, "val2014")
    document = load_document(source)
    chosen = {int(number) for number in MINIVAL.read_text().split()}
    lacking = chosen - {id_in(image, "id") for image in document["images"]}
    if lacking:
        raise ValueError(f"{source} lacks {len(lacking)} images of val2017, such as {min(lacking)}")
    written = []
    for name, inside in (("minival2014", True), ("valminusminival2014", False)):
        part = {
            **document,
            "images": [i for i in document["images"] if (id_in(i, "id") in chosen) == inside],
            "annotations": [
                annotation
                for annotation in document.get("annotations", [])
                if (id_in(annotation, "image_id") in chosen) == inside
            ],
        }
        path = source.with_name(f"instances_{name}.json")
        with replacing(path) as aside:
            aside.write_text(json.dumps(part))
        written.append(path)
    return written
