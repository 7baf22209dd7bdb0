# SPDX-License-Identifier: BSD-3-Clause
"""RoIAlign from several maps as ONNX's RoiAlign of each map, the same for both exporters.

ONNX has no such operator. Each map pools its own RoIs, whose bins are then scattered to their rows;
rows of padding stay zero. See `dcnv2.ops.onnx.nodes` for `build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .nodes import CODES, DOUBLE, FLOAT, INT64


def multiscale_roi_align(
    build: Any,
    inputs: Any,
    rois: Any,
    levels: Any,
    output_size: Sequence[int],
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    """RoiAlign of each map; every box must be of an image and finite, unless it is padding."""

    def whole(*numbers: int) -> Any:
        return build.constant(torch.tensor(numbers, dtype=torch.int64))

    maps = build.items(inputs)
    own = build.dtype(maps[0])
    code = DOUBLE if own == "DOUBLE" else FLOAT  # runtimes have RoiAlign in no half type
    table = build.Cast(rois, to=code)
    image = build.Cast(build.Gather(table, build.constant(torch.tensor(0)), axis=1), to=INT64)
    boxes = build.Gather(table, whole(1, 2, 3, 4), axis=1)
    count = build.Shape(levels)
    channels = build.Gather(build.Shape(maps[0]), whole(1), axis=0)
    shape = build.Concat(count, channels, whole(*output_size), axis=0)
    zero = torch.zeros((), dtype=torch.float64 if code == DOUBLE else torch.float32)
    pooled = build.Expand(build.constant(zero), shape)
    for level, (x, scale) in enumerate(zip(maps, spatial_scales, strict=True)):
        chosen = build.NonZero(build.Equal(levels, whole(level)))  # [1, R_l]
        rows = build.Squeeze(chosen, whole(0))
        bins = build.RoiAlign(
            build.Cast(x, to=code),
            build.Gather(boxes, rows, axis=0),
            build.Gather(image, rows, axis=0),
            coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
            mode="avg",
            output_height=output_size[0],
            output_width=output_size[1],
            sampling_ratio=sampling_ratio,
            spatial_scale=float(scale),
        )
        pooled = build.ScatterND(pooled, build.Transpose(chosen, perm=[1, 0]), bins)
    out = build.Cast(pooled, to=CODES[own])
    sizes = [None, build.sizes(maps[0])[1], *output_size]
    return build.typed(out, maps[0], sizes)
