# SPDX-License-Identifier: BSD-3-Clause
"""Detects the format and the splits of a data folder, and summarises their problems."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dcnv2.data.coco import CocoDataset
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.set_checks import set_problems
from dcnv2.data.voc import VocDataset

SMALL_AREA, LARGE_AREA = 32**2, 96**2
"""COCO's bounds between small, medium and large objects, in square pixels."""


def find_splits(root: str | Path) -> list[str]:
    """Returns the splits of a COCO or VOC folder that `open_dataset` takes.

    Raises:
        FileNotFoundError: The folder has none.
    """
    root = Path(root)
    names = [
        file.stem.removeprefix("instances_") for file in root.glob("annotations/instances_*.json")
    ]
    if not names:
        years = [root, *root.glob("VOC[0-9]*"), *root.glob("VOCdevkit/VOC[0-9]*")]
        for folder in years:
            prefix = "" if folder == root else folder.name.removeprefix("VOC") + "_"
            files = folder.glob("ImageSets/Main/*.txt")
            stems = [
                file.stem for file in files if re.fullmatch("train|val|trainval|test", file.stem)
            ]
            names += [prefix + stem for stem in stems]
    if not names:
        wanted = "annotations/instances_*.json, nor ImageSets/Main/*.txt"
        raise FileNotFoundError(f"{root} is no data set: it has neither {wanted}")
    return sorted(names)


def open_dataset(root: str | Path, split: str, **options: Any) -> DetectionDataset:
    """Opens a split of a folder in VOC's layout as `VocDataset`, of any other as `CocoDataset`."""
    root = Path(root)
    is_voc = (root / "ImageSets").is_dir() or re.match(r"\d{4}_", split)
    return (VocDataset if is_voc else CocoDataset)(root, split, **options)


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
