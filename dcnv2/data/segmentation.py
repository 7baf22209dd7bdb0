# SPDX-License-Identifier: BSD-3-Clause
"""COCO segmentations: polygons and run-length codes, checked and brought into one format."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from dcnv2.data.annotations import Fault
from dcnv2.data.polygons import near_image, polygon_fault
from dcnv2.data.run_lengths import rle_fault


def encode(segmentation: Any, size: tuple[int, int]) -> tuple[bytes, list[Fault]]:
    """Turns a COCO segmentation into a compressed run-length code, without its unusable parts.

    Args:
        segmentation: Run lengths, compressed or not, or a list of parts: polygons or run lengths.
        size: Width and height of the image.

    Returns:
        The code, empty where nothing usable is left, and what is wrong.
    """
    if not segmentation:
        return b"", [("missing mask", "no segmentation")]
    parts = segmentation if isinstance(segmentation, list) else [segmentation]
    if not all(isinstance(part, list | dict) for part in parts):
        got = str(segmentation)[:60]
        return b"", [("invalid polygon", f"wanted a list of lists of numbers, got {got}")]
    codes: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for number, part in enumerate(parts, start=1):
        is_rle = isinstance(part, dict)
        what = rle_fault(part, size) if is_rle else polygon_fault(part)
        if what is None:
            codes.append(_part_code(part, size))
        else:
            kind = "invalid RLE" if is_rle else "invalid polygon"
            faults.append((kind, what if len(parts) == 1 else f"part {number}: {what}"))
    if codes:
        code = coco_mask.merge(codes)
        if coco_mask.area(code) > 0:
            return code["counts"], faults
        faults.append(("empty mask", "the segmentation has no pixel"))
    return b"", faults


def box_code(box: Sequence[float], size: tuple[int, int]) -> bytes:
    """Returns the compressed run-length code of a box x, y, width, height."""
    width, height = size
    left, right = (min(max(x, 0.0), width) for x in (box[0], box[0] + box[2]))
    top, bottom = (min(max(y, 0.0), height) for y in (box[1], box[1] + box[3]))
    inside = np.array([[left, top, right - left, bottom - top]], np.float64)
    return coco_mask.frPyObjects(inside, height, width)[0]["counts"]


def _part_code(part: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Returns the compressed code of one valid part."""
    width, height = size
    if isinstance(part, list):
        polygon = near_image(part, size)
        if len(polygon) < 6:  # all of it is far from the image
            polygon = [0.0] * 6
        return coco_mask.frPyObjects([polygon], height, width)[0]
    if isinstance(part["counts"], list):
        return coco_mask.frPyObjects(part, height, width)
    counts = part["counts"]
    counts = counts.encode("ascii") if isinstance(counts, str) else counts
    return {"size": [height, width], "counts": counts}
