# SPDX-License-Identifier: BSD-3-Clause
"""Polygons of COCO segmentations: faults, turned shapes, and the part near the image."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_COORDINATE = 1e15
"""Largest coordinate: beyond it, float64 soon cannot represent every pixel."""
ELLIPSE_POINTS = 64


def finite(values: Sequence[Any]) -> bool:
    """Whether all values are numbers that a coordinate can have."""
    return all(type(value) in (int, float) and abs(value) <= MAX_COORDINATE for value in values)


def polygon_fault(polygon: Any) -> str | None:
    """Returns what is wrong with a polygon [x0, y0, x1, y1, ...], or None."""
    if not isinstance(polygon, list):
        return f"wanted a list of coordinates, got {str(polygon)[:60]}"
    if len(polygon) % 2:
        return f"{len(polygon)} coordinates are an odd count"
    if len(polygon) < 6:
        return f"{len(polygon) // 2} points, wanted three or more"
    if not finite(polygon):
        return "a coordinate is not a finite number"
    return None


def turned(points: Any, x: float, y: float, degrees: float) -> list[float]:
    """Returns points [P, 2] turned clockwise around a centre, as x0, y0, x1, y1, ..."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    return ((np.asarray(points, np.float64) - [x, y]) @ matrix + [x, y]).ravel().tolist()


def turned_box(box: Sequence[float], degrees: float) -> list[float]:
    """Returns a box (x, y, width, height) turned clockwise around its centre, as x0, y0, ..."""
    x, y, width, height = box
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    return turned(corners, x + width / 2, y + height / 2, degrees)


def ellipse_outline(x: float, y: float, rx: float, ry: float, degrees: float) -> list[float]:
    """Returns the outline of an ellipse turned clockwise around its centre, as x0, y0, ..."""
    turns = np.linspace(0, 2 * math.pi, ELLIPSE_POINTS, endpoint=False)
    outline = np.stack([x + rx * np.cos(turns), y + ry * np.sin(turns)], axis=1)
    return turned(outline, x, y, degrees)


def near_image(polygon: list[float], size: tuple[int, int]) -> list[float]:
    """Cuts a polygon off where it reaches further from the image than the image's size.

    pycocotools walks along every edge in steps of a fifth of a pixel and counts in 32 bits: a far
    point takes gigabytes, or ends the process. The pixels inside the image stay the same, up to
    the rounding of edges that were cut.

    Args:
        polygon: x0, y0, x1, y1, ...
        size: Width and height of the image.

    Returns:
        The same list if nothing is far away; empty if nothing is near.
    """
    points = np.array(polygon, np.float64).reshape(-1, 2)
    reach = np.array(size, np.float64)
    if ((points >= -reach) & (points <= 2 * reach)).all():
        return polygon
    for axis in (0, 1):
        points = _half_plane(points, axis, -reach[axis], 1.0)
        points = _half_plane(points, axis, 2 * reach[axis], -1.0)
    return points.ravel().tolist()


def _half_plane(points: np.ndarray, axis: int, border: float, sign: float) -> np.ndarray:
    """Cuts a polygon [V, 2] at a line across an axis (Sutherland and Hodgman 1974)."""
    inside = sign * (points[:, axis] - border) >= 0
    kept = []
    for index in range(len(points)):
        here, before = points[index], points[index - 1]
        if inside[index] != inside[index - 1]:
            share = (border - before[axis]) / (here[axis] - before[axis])
            crossing = before + share * (here - before)
            crossing[axis] = border
            kept.append(crossing)
        if inside[index]:
            kept.append(here)
    return np.array(kept).reshape(-1, 2)
