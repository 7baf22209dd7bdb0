# SPDX-License-Identifier: BSD-3-Clause
"""Small COCO folders in the layouts of real ones, to be read and to be broken."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30
TRIANGLE = [[5.0, 4.0, 25.0, 6.0, 10.0, 20.0]]


def image_entry(image_id: int, name: str) -> dict:
    return {"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT}


def annotation(annotation_id: int, image_id: int, **changes) -> dict:
    """An object of category 18 that is right but for the changes; None leaves an entry out."""
    entry = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 18,
        "bbox": [5.0, 4.0, 20.0, 16.0],
        "area": 160.5,
        "iscrowd": 0,
        "segmentation": TRIANGLE,
    }
    entry |= changes
    return {key: value for key, value in entry.items() if value is not None}


def document(images: list[dict], annotations: list[dict]) -> dict:
    """Categories have gaps between their ids and are out of order, as files may have them."""
    categories = [{"id": 44, "name": "bottle"}, {"id": 1, "name": "person"}]
    categories.append({"id": 18, "name": "dog"})
    return {"images": images, "annotations": annotations, "categories": categories}


def write_images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shade, name in enumerate(names):
        pixels = np.full((HEIGHT, WIDTH, 3), 40 + 20 * shade, np.uint8)
        Image.fromarray(pixels).save(folder / name)


def write_coco(
    root: Path, content: dict, folder: str = "val2017", name: str = "instances_val2017"
) -> Path:
    """Writes a document and an image for each file name in it; returns the root."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    write_images(root / folder, [entry["file_name"] for entry in content["images"]])
    (root / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return root
