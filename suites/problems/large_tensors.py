# SPDX-License-Identifier: BSD-3-Clause
"""Tensors that span more than 2^31 elements: of a sparse file, so that they take no memory.

On a GPU they take their full size.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from suites.problems.problem import ConvProblem, RoIProblem

EDGES = (2**31 - 1, 2**31, 2**31 + 1, 2**31 + 2**15)  # around the largest 32-bit index, and beyond
_MOST = 2**31 + 2**16

# Only a few rows of the image are read, the last of them beyond element 2^31.
_ROWS, _WIDTH = 8, 2**11


@contextlib.contextmanager
def zeros(dtype: torch.dtype, device: str = "cpu") -> Iterator[Tensor]:
    """More than 2^31 zeros; on the CPU only the pages that are used take memory."""
    if device != "cpu":
        yield torch.zeros(_MOST, dtype=dtype, device=device)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "zeros"))
        yield torch.from_file(file, shared=True, size=_MOST, dtype=dtype)


def spread(tensor: Tensor, axis: int, last: int, memory: Tensor) -> Tensor:
    """The same values with a stride along an axis that puts the last one at element `last`."""
    strides = list(torch.empty(tensor.shape, device="meta").stride())
    extents = [n - 1 for n in tensor.shape]
    extents[axis] = 0
    rest = sum(n * s for n, s in zip(extents, strides, strict=True))
    steps = tensor.shape[axis] - 1
    strides[axis] = (last - rest) // steps
    moved = memory.as_strided(tensor.shape, strides, last - rest - steps * strides[axis])
    return moved.copy_(tensor)


def tall(channels: int) -> int:
    """Rows of the image: half of the last few are beyond element 2^31."""
    return 2**31 // (channels * _WIDTH) + _ROWS // 2


def conv_problems(dtype: str, channels: int) -> tuple[ConvProblem, ConvProblem]:
    """A convolution that samples the first and last rows of a tall image, or of a small one."""
    low = 2 * _ROWS
    few = ConvProblem(
        batch=1, in_channels=channels, out_channels=max(channels // 2, 1), height=low,
        width=_WIDTH, kernel=(1, 1), stride=(low - 1, 255), padding=(0, 0),
        dilation=(1, 1), groups=1, deform_groups=1, dtype=dtype, offsets="small", seed=2,
    )  # fmt: skip
    height = tall(channels)
    return few.but(height=height, stride=(height - 1, 255)), few


def pool_problem(kind: str) -> RoIProblem:
    """A pooling of a small image, for RoIs at its `corners`."""
    return RoIProblem(
        kind=kind, batch=1, channels=1, height=2 * _ROWS, width=_WIDTH, bins=(2, 2), scale=1.0,
        samples=2, offset_scale=0.125, rois=("inside",) * 4, offsets="small", seed=3,
    )  # fmt: skip


def corners(generator: torch.Generator) -> Tensor:
    """[4, 5] RoIs at the left and the right end of the last rows of the small image."""
    low, rows = 2 * _ROWS, []
    for x in (0.0, _WIDTH - 4.0):
        for y in (low - 3.0, low - 2.0):
            rows.append([0.0, x, y, x + 3, float(low - 1)])
    order = torch.randperm(len(rows), generator=generator)
    return torch.tensor(rows, dtype=torch.float64)[order]


def tall_image(few: Tensor, memory: Tensor) -> Tensor:
    """[1, C, tall, W], channels last: both halves of a small image at the ends of a tall one."""
    channels, width = few.shape[1], few.shape[3]
    shape = (1, channels, tall(channels), width)
    image = memory[: math.prod(shape)].view(1, shape[2], width, channels).permute(0, 3, 1, 2)
    image[:, :, :_ROWS] = few[:, :, :_ROWS]
    image[:, :, -_ROWS:] = few[:, :, _ROWS:]
    return image


def largest_index(tensor: Tensor) -> int:
    """The largest index of a tensor's elements, relative to the first."""
    return sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
