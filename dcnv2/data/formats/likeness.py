# SPDX-License-Identifier: BSD-3-Clause
"""What a file or folder that no reader takes looks like, and what to do with it."""

import json
from pathlib import Path
from typing import Any

from dcnv2.data.formats.files import pictures_in

# Key of a JSON object -> the format that has it, and the way out.
KEYS = {
    "imagePath": ("LabelMe", "convert it with labelme2coco"),
    "_via_img_metadata": ("VGG Image Annotator", "export it as COCO there"),
    "_via_settings": ("VGG Image Annotator", "export it as COCO there"),
    "image_id": ("detections in COCO's result format", "give the file of annotations"),
    "data": ("Label Studio's tasks", "give the folder that has this file"),
    "label": ("Label Studio's JSON-MIN", "give the folder that has this file"),
    "features": ("GeoJSON", "export it as COCO"),
    "items": ("Datumaro", "export it as COCO with `datum convert -f coco`"),
    "annotations": ("CreateML, or a part of COCO", "export it as COCO"),
}
# File in a folder -> the format that has it, and the way out.
FILES = {
    "*.zip": ("an archive", "unpack it and give the folder"),
    "*.tar*": ("an archive", "unpack it and give the folder"),
    "*.tfrecord": ("TFRecord", "export it as COCO"),
    "_annotations.csv": ("RetinaNet's CSV", "export it as COCO"),
    "*.csv": ("a table", "write a data set from Python around it"),
    "*.parquet": ("a Parquet file of Hugging Face", "write a data set from Python around it"),
}


def likeness(document: Any) -> str:
    """Returns what a JSON document looks like, as the end of a message; empty if unknown."""
    entry = document[0] if isinstance(document, list) and document else document
    if isinstance(entry, dict):
        for key, (likely, way) in KEYS.items():
            if key in entry:
                return f"; it looks like {likely}: {way}"
    return ""


def folder_likeness(root: Path) -> str:
    """Returns what a path that is no data set looks like, as the end of a message."""
    if not root.exists():
        return ": there is no such folder"
    if root.is_file():
        for pattern, (likely, way) in FILES.items():
            if root.match(pattern):
                return f"; it looks like {likely}: {way}"
        if root.suffix == ".json":
            return "; give the file as the split: `--data.train=FILE.json`"
        return "; wanted its folder"
    parent = root.parent
    for pattern, (likely, way) in FILES.items():
        if any(root.glob(pattern)):
            return f"; it looks like {likely}: {way}"
    found = next(iter(sorted(root.glob("*.json"))), None)
    if found is not None:
        try:
            text = likeness(json.loads(found.read_bytes()))
        except (OSError, ValueError, RecursionError):
            text = ""
        return text or f"; its {found.name} is no format of annotations that is known"
    if root.name in ("images", "labels", "annotations", "Annotations", "JPEGImages", "train"):
        return f"; if it is a part of {parent}, give that folder"
    pictures = pictures_in(root)
    if any(picture.with_suffix(".txt").is_file() for picture in pictures):
        return "; it looks like YOLO's labels: add classes.txt with a name on each line"
    if pictures:
        return "; it has pictures, but no annotations"
    return ""
