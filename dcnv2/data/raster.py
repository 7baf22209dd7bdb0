# SPDX-License-Identifier: BSD-3-Clause
"""From contours to pixels and back: polygon coverage, and the exact polygon of a binary mask.

Only additions, multiplications, divisions, square roots and comparisons decide a pixel. IEEE 754
rounds those alike everywhere, so one seed draws one picture on every machine.
"""

import numpy as np

ROWS_PER_PIXEL = 4
"""Scan lines through each pixel row; across, coverage is exact to 1/256 of a pixel."""


def coverage(contours: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Returns which share of each pixel lies inside closed contours (non-zero winding).

    A contour that winds against the others cuts a hole. Every scan line adds, for each edge that
    it crosses, the signed share of the pixel row to the right of the crossing.

    Args:
        contours: Arrays [V, 2] of (x, y) in pixels; pixel (row, column) spans
            [column, column + 1) x [row, row + 1).
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        float32 [height, width] in [0, 1], multiples of 1/1024.
    """
    start = np.concatenate(contours)
    stop = np.concatenate([np.roll(contour, -1, axis=0) for contour in contours])
    scan = (np.arange(height * ROWS_PER_PIXEL) + 0.5) / ROWS_PER_PIXEL
    below_start = start[:, 1] <= scan[:, None]
    line, edge = np.nonzero(below_start != (stop[:, 1] <= scan[:, None]))
    (x0, y0), (x1, y1) = start[edge].T, stop[edge].T
    x = x0 + (scan[line] - y0) * (x1 - x0) / (y1 - y0)
    sign = np.where(y0 < y1, 1.0, -1.0)
    # Whole numbers of 1/256 pixel make every later sum exact, in whatever order it is taken.
    ticks = np.clip(np.floor(x * 256 + 0.5), 0, width * 256)
    column = np.floor(ticks / 256)
    part = column + 1 - ticks / 256
    cell = (line // ROWS_PER_PIXEL) * (width + 2) + column.astype(np.int64)
    change = np.bincount(cell, sign * part, height * (width + 2))
    change += np.bincount(cell + 1, sign * (1 - part), height * (width + 2))
    winding = change.reshape(height, width + 2).cumsum(axis=1)[:, :width]
    return np.minimum(np.abs(winding) / ROWS_PER_PIXEL, 1).astype(np.float32)


def trace_polygons(mask: np.ndarray) -> list[list[int]] | None:
    """Returns the pixel-edge polygons of a mask, or None where COCO polygons cannot hold it.

    COCO joins the polygons of an object, so a hole has no polygon form; neither has a mask whose
    parts touch only at a corner.

    Args:
        mask: bool [H, W], not empty.

    Returns:
        Polygons [x0, y0, x1, y1, ...] that walk the mask clockwise along pixel borders.
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), np.int8)
    padded[1:-1, 1:-1] = mask
    # Directed unit edges keep the mask on their right: +x on top of a pixel, +y on its right side.
    across = np.diff(padded, axis=0)[:, 1:-1]
    along = np.diff(padded, axis=1)[1:-1]
    row, column = np.nonzero(across)
    forward = across[row, column] > 0
    begin = np.stack([np.where(forward, column, column + 1), row], 1)
    end = np.stack([np.where(forward, column + 1, column), row], 1)
    row, column = np.nonzero(along)
    upward = along[row, column] > 0
    begin = np.concatenate([begin, np.stack([column, np.where(upward, row + 1, row)], 1)])
    end = np.concatenate([end, np.stack([column, np.where(upward, row, row + 1)], 1)])

    following = dict(zip(map(tuple, begin.tolist()), map(tuple, end.tolist()), strict=True))
    if len(following) < len(begin):
        return None
    polygons = []
    while following:
        corner = next(iter(following))
        path = []
        while corner in following:
            path.append(corner)
            corner = following.pop(corner)
        points = np.array(path)
        before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
        turns = (before[:, 0] != after[:, 0]) & (before[:, 1] != after[:, 1])
        points = points[turns]
        shifted = np.roll(points, -1, axis=0)
        doubled_area = (points[:, 0] * shifted[:, 1] - points[:, 1] * shifted[:, 0]).sum()
        if doubled_area < 0:
            return None
        polygons.append(points.ravel().tolist())
    return polygons
