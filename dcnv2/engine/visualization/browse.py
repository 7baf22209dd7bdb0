# SPDX-License-Identifier: BSD-3-Clause
"""Pictures of a data set with its annotations, as stored and as augmented, on one page."""

from __future__ import annotations

import base64
import copy
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.folders import inspect
from dcnv2.data.images import BadImageError
from dcnv2.data.loader import Seeded
from dcnv2.engine.config import DataConfig
from dcnv2.engine.runtime.datasets import augmentation
from dcnv2.engine.runtime.files import write_atomically
from dcnv2.engine.visualization.draw import draw, write_picture

# Longer side of a thumbnail, in pixels.
THUMBNAIL = 240
STYLE = """
body {font: 15px sans-serif; margin: 2em; max-width: 1100px}
table {border-collapse: collapse; margin-bottom: 1em}
td, th {border: 1px solid #bbb; padding: 0.2em 0.6em; text-align: right}
td:first-child, th:first-child {text-align: left}
figure {display: inline-block; margin: 0.4em; vertical-align: top; max-width: 520px}
figcaption {font-size: 12px; overflow-wrap: anywhere}
@media (prefers-color-scheme: dark) {body {background: #1b1b1b; color: #ddd}}
"""


def browse(
    datasets: Mapping[str, DetectionDataset],
    config: DataConfig,
    out: Path,
    count: int,
    seed: int = 0,
) -> Path:
    """Draws images of each split as stored and as augmented, and writes a page about the splits.

    Args:
        datasets: by split, without transforms.
        config: of a training, for its augmentation.
        out: folder to write: `<split>/<name>_stored.png`, `<name>_augmented.png`, and `index.html`,
            which contains thumbnails and needs no other file.
        count: number of images of a split, evenly chosen.
        seed: of the augmentation.

    Returns:
        The page.

    Raises:
        OSError: a file could not be written.
    """
    parts = []
    for split, dataset in datasets.items():
        folder = out / _plain(split)
        folder.mkdir(parents=True, exist_ok=True)
        chosen = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int))
        parts.append(f"<h2>{html.escape(split)}</h2>")
        for number, index in enumerate(chosen.tolist(), start=1):
            file = Path(dataset.table.files[index])
            name = f"{number:04d}_{_plain(file.stem)[:80]}"
            try:
                pictures = _pictures(dataset, index, config, seed)
            except BadImageError as error:
                parts.append(f"<p>{html.escape(str(error))}</p>")
                continue
            for kind, picture in pictures.items():
                write_picture(folder / f"{name}_{kind}.png", picture)
            parts.append(_figure(file.name, dataset, index, pictures.values()))
    out.mkdir(parents=True, exist_ok=True)
    page = out / "index.html"
    write_atomically(page, _page(_tables(datasets), parts))
    return page


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _pictures(
    dataset: DetectionDataset, index: int, config: DataConfig, seed: int
) -> dict[str, Tensor]:
    """Returns an image with its objects, as stored and as a training gets it, uint8 [3, H, W]."""
    stored = draw(dataset.image(index), dataset.target(index), dataset.names, 0)
    augmented = copy.copy(dataset)
    augmented.transforms = augmentation(augmented, config)
    image, target = Seeded(augmented)[index, seed + index]
    if image.is_floating_point():
        image = (image * 255).round().to(torch.uint8)
    return {"stored": stored, "augmented": draw(image, target, dataset.names, 0)}


def _figure(name: str, dataset: DetectionDataset, index: int, pictures: Iterable[Tensor]) -> str:
    width, height = dataset.table.sizes[index].tolist()
    objects = len(dataset.target(index)["labels"])
    text = f"{name}: {width} x {height}, {objects} object{'' if objects == 1 else 's'}"
    images = " ".join(map(_thumbnail, pictures))
    return f"<figure>{images}<figcaption>{html.escape(text)}</figcaption></figure>"


def _thumbnail(picture: Tensor) -> str:
    """Returns a picture as an image element that contains its bytes."""
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=85)
    code = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="" width="{image.width}" src="data:image/jpeg;base64,{code}">'


def _tables(datasets: Mapping[str, DetectionDataset]) -> list[str]:
    """Returns the tables of splits, of classes, and of the sizes of images and objects."""
    report = inspect(datasets)
    sizes = pd.DataFrame(
        [row for split, dataset in datasets.items() for row in _size_rows(split, dataset)],
        columns=["split", "of", "least", "median", "largest"],
    )
    titles = {"Splits": report.splits, "Classes": report.classes, "Sizes in pixels": sizes}
    form: dict[str, Any] = {"index": False, "border": 0, "na_rep": ""}
    form["float_format"] = "{:.4g}".format
    return [f"<h2>{title}</h2>{table.to_html(**form)}" for title, table in titles.items()]


def _size_rows(split: str, dataset: DetectionDataset) -> list[tuple[Any, ...]]:
    table = dataset.table
    columns = {"image width": table.sizes[:, 0], "image height": table.sizes[:, 1]}
    boxes = table.boxes[~table.crowd]
    columns |= {"object width": boxes[:, 2], "object height": boxes[:, 3]}
    return [
        (split, name, *(np.quantile(values, [0, 0.5, 1]).tolist()))
        for name, values in columns.items()
        if len(values)
    ]


def _page(tables: Sequence[str], parts: Sequence[str]) -> str:
    head = f'<meta charset="utf-8"><title>Data set</title><style>{STYLE}</style>'
    note = "<p>Each pair shows an image as stored, and as a training gets it.</p>"
    body = "\n".join(["<h1>Data set</h1>", *tables, "<h1>Images</h1>", note, *parts])
    return f"<!doctype html>\n<html><head>{head}</head>\n<body>{body}</body></html>\n"
