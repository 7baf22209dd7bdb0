# SPDX-License-Identifier: BSD-3-Clause
"""Regions of interest in the forms that the pools accept."""

from collections.abc import Sequence

from torch import Tensor, cat, full


def as_table(rois: Tensor | Sequence[Tensor]) -> Tensor:
    """[R, 5] rows (batch index, x1, y1, x2, y2); a list holds the [R_i, 4] boxes of each image."""
    if isinstance(rois, Tensor):
        return rois
    return cat(
        [
            cat((full((len(boxes), 1), index, dtype=boxes.dtype, device=boxes.device), boxes), 1)
            for index, boxes in enumerate(rois)
        ]
    )


def as_pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """One number for both axes, or (y, x)."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])
