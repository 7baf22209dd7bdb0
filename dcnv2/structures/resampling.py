# SPDX-License-Identifier: BSD-3-Clause
"""Geometric transforms of run-length masks: any of torchvision.transforms.v2, unchanged.

Every transform of masks copies pixels: a pixel of the result is a pixel of the source, or outside
of it. One map of source coordinates [2, H, W], transformed like a mask, therefore describes what
happens to all masks of an image, and gives the same pixels as transforming each. torchvision
flattens a sample by PyTorch's pytree before it transforms the leaves; masks are registered there
as a node whose only leaf is that map.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node
from torchvision import tv_tensors

from dcnv2.structures.masks import RunLengthMasks, expand_ranges, split_columns


def source_map(size: tuple[int, int]) -> Tensor:
    """Returns int32 [2, H, W] of every pixel's row + 1 and -(column + 1).

    Their signs differ, so no fill value of a transform is the coordinate of a pixel.
    """
    height, width = size
    source = torch.empty(2, height, width, dtype=torch.int32)
    source[0] = torch.arange(1, height + 1)[:, None]
    source[1] = -torch.arange(1, width + 1)
    return source


def resample(masks: RunLengthMasks, source: Tensor) -> RunLengthMasks:
    """Returns the masks after the transform that turned `source_map(masks.size)` into `source`.

    Args:
        masks: On the CPU.
        source: int32 [2, H', W'], see `source_map`.
    """
    rows, columns = source.numpy()
    # In a transform that moves whole rows and columns, the maps of one row and of one column with
    # a pixel of the source describe all.
    y, x = divmod(int(rows.argmax()), rows.shape[1])
    row_of, column_of = rows[:, x], columns[y]
    aligned = (
        np.array_equal(rows, np.where(column_of < 0, row_of[:, None], 0))
        and np.array_equal(columns, np.where(row_of[:, None] > 0, column_of, 0))
        and _is_monotone(row_of)
    )
    runs, owner, refit = (
        _resample_axes(masks, row_of.astype(np.int64) - 1, -column_of.astype(np.int64) - 1)
        if aligned
        else _resample_pixels(masks, rows, columns)
    )
    return RunLengthMasks(
        torch.from_numpy(runs.astype(np.int32)),
        torch.from_numpy(np.searchsorted(owner, np.arange(len(masks) + 1))),
        rows.shape,
        masks.refit | torch.from_numpy(refit),
    )


def _is_monotone(row_of: np.ndarray) -> bool:
    """Whether the rows inside follow each other without a gap, up or down."""
    places = np.flatnonzero(row_of > 0)
    steps = np.diff(row_of[places])
    gap = len(places) and places[-1] - places[0] + 1 != len(places)
    return not gap and bool((steps >= 0).all() or (steps <= 0).all())


def _resample_axes(
    masks: RunLengthMasks, row_of: np.ndarray, column_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For transforms that move whole rows and columns: flips, crops, padding, resizing.

    Args:
        masks: What is transformed.
        row_of: int64 [H'], monotone, the source row of each row of the result, or -1.
        column_of: int64 [W'], the same for columns, in any order.

    Returns:
        Runs [R, 3], the mask of each, and whether each mask was cut, as `RunLengthMasks` has them.
    """
    column, top, bottom = masks.runs.numpy().astype(np.int64).T
    y, x = np.flatnonzero(row_of >= 0), np.flatnonzero(column_of >= 0)
    rows, columns = row_of[y], column_of[x]
    down = len(rows) < 2 or rows[0] <= rows[-1]
    ascending = rows if down else rows[::-1]
    low, high = np.searchsorted(ascending, top), np.searchsorted(ascending, bottom)
    if not down:
        low, high = len(rows) - high, len(rows) - low
    first_row = y[0] if len(y) else 0

    order = columns.argsort(kind="stable")
    begin = np.searchsorted(columns, column, sorter=order)
    counts = np.searchsorted(columns, column, side="right", sorter=order) - begin
    run, place = expand_ranges(begin, np.where(high > low, counts, 0))
    runs = np.stack([x[order[place]], low[run] + first_row, high[run] + first_row], axis=1)
    owner = masks.owner.numpy()[run]
    runs = runs[np.lexsort([runs[:, 1], runs[:, 0], owner])]
    return runs, owner, _is_cut(masks, rows, columns)


def _is_cut(masks: RunLengthMasks, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Whether each mask reaches beyond the first or the last row or column that is left."""
    if not len(rows) or not len(columns):
        return np.ones(len(masks), bool)
    low = np.array([columns.min(), rows.min()])
    high = np.array([columns.max(), rows.max()]) + 1
    if not low.any() and (*high[::-1],) == masks.size:
        return np.zeros(len(masks), bool)
    windows = masks.windows().numpy()
    outside = (windows[:, :2] < low) | (windows[:, 2:] > high)
    return np.asarray(outside.any(axis=1))


def _resample_pixels(
    masks: RunLengthMasks, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For all other transforms: rotations, shears, perspective, elastic.

    Args:
        masks: What is transformed.
        rows: int32 [H', W'], the source row + 1 of each pixel of the result.
        columns: int32 [H', W'], -(the source column + 1); outside unless the signs differ.

    Returns:
        Runs [R, 3], the mask of each, and that each mask was turned.
    """
    source_height, height = masks.size[0], rows.shape[0]
    # Pixels of the source and of the result are numbered down the columns.
    rows, columns = rows.T.ravel(), columns.T.ravel()
    target = np.flatnonzero((rows > 0) & (columns < 0))
    source = (-columns[target].astype(np.int64) - 1) * source_height + rows[target] - 1
    order = source.argsort(kind="stable")
    source, target = source[order], target[order]
    column, top, bottom = masks.runs.numpy().astype(np.int64).T
    begin = np.searchsorted(source, column * source_height + top)
    counts = np.searchsorted(source, column * source_height + bottom) - begin

    starts, stops, owners = [], [], []
    for mask, (low, high) in enumerate(pairwise(masks.first.tolist())):
        _, place = expand_ranges(begin[low:high], counts[low:high])
        if len(place):
            start, stop = _runs_of_pixels(target[place])
            starts.append(start)
            stops.append(stop)
            owners.append(np.full(len(start), mask))
    start, stop, owner = (
        np.concatenate([np.zeros(0, np.int64), *parts]) for parts in (starts, stops, owners)
    )
    runs, piece = split_columns(start, stop, height)
    return runs, owner[piece], np.ones(len(masks), bool)


def _runs_of_pixels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the starts and ends of the runs that pixels form, given in any order."""
    low = int(pixels.min())
    present = np.zeros(int(pixels.max()) - low + 3, np.int8)
    present[pixels - low + 1] = 1
    edges = np.diff(present)
    return np.flatnonzero(edges == 1) + low, np.flatnonzero(edges == -1) + low


def _flatten(masks: RunLengthMasks) -> tuple[list[Any], Any]:
    sent = source_map(masks.size)
    return [tv_tensors.Mask(sent)], (masks, sent)


def _unflatten(leaves: Any, context: tuple[RunLengthMasks, Tensor]) -> RunLengthMasks:
    (leaf,), (masks, sent) = leaves, context
    source = leaf.as_subclass(Tensor)
    untouched = source.data_ptr() == sent.data_ptr() and source.shape == sent.shape
    if untouched and source.stride() == sent.stride():
        return masks
    return resample(masks, source)


register_pytree_node(RunLengthMasks, _flatten, _unflatten)
