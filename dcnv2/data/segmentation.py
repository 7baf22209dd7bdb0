# SPDX-License-Identifier: BSD-3-Clause
"""COCO segmentations: polygons and run-length codes, checked and brought into one form."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def encode(segmentation: Any, size: tuple[int, int]) -> tuple[tuple[str, str] | None, bytes]:
    """Turns a COCO segmentation into a compressed run-length code.

    Args:
        segmentation: Polygons, or run lengths, compressed or not.
        size: Width and height of the image.

    Returns:
        What is wrong as (kind, what), or None; and the code, empty if something is.
    """
    width, height = size
    if isinstance(segmentation, dict):
        fault = _rle_fault(segmentation, size)
        if fault is not None:
            return fault, b""
        if isinstance(segmentation["counts"], list):
            code = coco_mask.frPyObjects(segmentation, height, width)
        else:
            counts = segmentation["counts"]
            counts = counts.encode("ascii") if isinstance(counts, str) else counts
            code = {"size": [height, width], "counts": counts}
    else:
        fault = _polygon_fault(segmentation)
        if fault is not None:
            return fault, b""
        code = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if coco_mask.area(code) == 0:
        return ("empty mask", "the segmentation has no pixel"), b""
    return None, code["counts"]


def finite(values: Sequence[Any]) -> bool:
    """Whether all values are finite numbers."""
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Returns COCO's uncompressed code of bool [H, W]: runs of 0 and 1, down the columns."""
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False))
    return np.diff(changes, prepend=0, append=mask.size).tolist()


def _polygon_fault(polygons: Any) -> tuple[str, str] | None:
    if not isinstance(polygons, list) or not all(isinstance(part, list) for part in polygons):
        return "invalid polygon", f"wanted a list of lists of numbers, got {str(polygons)[:60]}"
    for part in polygons:
        if len(part) % 2:
            return "invalid polygon", f"{len(part)} coordinates are an odd count"
        if len(part) < 6:
            return "invalid polygon", f"{len(part) // 2} points, wanted three or more"
        if not finite(part):
            return "invalid polygon", "a coordinate is not a finite number"
    return None


def _rle_fault(code: dict[str, Any], size: tuple[int, int]) -> tuple[str, str] | None:
    width, height = size
    if list(code.get("size", [])) != [height, width]:
        return "invalid RLE", f"size is {code.get('size')}, the image is [{height}, {width}]"
    counts = code.get("counts")
    if isinstance(counts, list):
        if not finite(counts) or min(counts, default=-1) < 0:
            return "invalid RLE", "runs are not all counts of pixels"
        if sum(counts) != height * width:
            return "invalid RLE", f"runs add up to {sum(counts)} of {height * width} pixels"
    elif not isinstance(counts, str | bytes):
        return "invalid RLE", f"counts is {type(counts).__name__}, wanted a list or text"
    elif (total := _code_length(counts)) != height * width:
        return "invalid RLE", f"runs add up to {total} of {height * width} pixels"
    return None


def _code_length(counts: str | bytes) -> int:
    """How many pixels a compressed code runs over; pycocotools does not look.

    The format: numbers of 5 bits a character from '0' on, lowest bits first, 0x20 for "more to
    come", sign in bit 0x10 of the last; from the third run on, differences to the run before last.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode("latin-1", "replace") if isinstance(counts, str) else counts:
        bits = byte - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return -1 if shift or min(runs, default=-1) < 0 else sum(runs)
