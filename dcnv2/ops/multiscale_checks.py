# SPDX-License-Identifier: BSD-3-Clause
"""Checks of the arguments of multiscale_roi_align; see `dcnv2.ops.checks`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import checks

MOST_LEVELS = 8  # kMostLevels of csrc/roi_geometry.h


def check_multiscale_roi_align(
    inputs: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Raise if the operands of multiscale_roi_align do not fit (see check_deform_conv2d)."""
    check_maps(inputs, spatial_scales)
    checks.limited("output_size", *output_size)
    checks.limited("spatial_scales", *spatial_scales, limits_of="spatial_scale")
    checks.limited("sampling_ratio", sampling_ratio)
    for number, input in enumerate(inputs):
        name = f"inputs[{number}]"
        checks.check_rank(name, input, 4, "[N, C, H, W]")
        checks.check_dtype(name, input, inputs[0])
        checks.check_device(inputs[0], **{name: input})
        checks.check_rois(input, rois, name)
        if input.shape[:2] != inputs[0].shape[:2]:
            first, other = checks.shape(inputs[0]), checks.shape(input)
            raise ValueError(f"inputs must have the same N and C, got {first} and {other}")
    checks.check_elements("output_size", (rois.shape[0], inputs[0].shape[1], *output_size))
    checks.check_rank("levels", levels, 1, "[R]")
    if levels.dtype != torch.int64:
        raise TypeError(f"levels must be int64, got {levels.dtype}")
    checks.check_shape("levels", levels, (rois.shape[0],), "[R]")
    checks.check_device(inputs[0], levels=levels)


def check_maps(inputs: Sequence[Tensor], spatial_scales: Sequence[float]) -> None:
    """Check the number of maps, which the compiled libraries limit, and that each has a scale.

    Raises:
        TypeError: `inputs` is no list or tuple.
        ValueError: a length does not fit.
    """
    wanted = f"a list of 1 to {MOST_LEVELS} maps [N, C, H, W]"
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(f"inputs must be {wanted}, got {type(inputs).__name__}")
    if not 1 <= len(inputs) <= MOST_LEVELS:
        raise ValueError(f"inputs must be {wanted}, got {len(inputs)}")
    if len(spatial_scales) != len(inputs):
        raise ValueError(
            f"spatial_scales must hold a number for each of {len(inputs)} maps, "
            f"got {len(spatial_scales)}"
        )


def check_levels(inputs: Sequence[Tensor], rois: Tensor, levels: Tensor) -> None:
    """Raise if a RoI has no map or no image, unless it is padding; as `check_batch_index`.

    Raises:
        ValueError: a level is the number of maps or more, or a batch index is outside [0, N).
    """
    if not checks.may_read(levels) or not checks.may_read(rois):
        return
    wrong = levels >= len(inputs)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"levels must be less than the {len(inputs)} maps, got {int(levels[row])} in row {row}"
        )
    padding = levels < 0
    checks.check_batch_index(inputs[0], rois.masked_fill(padding.unsqueeze(1), 0))
