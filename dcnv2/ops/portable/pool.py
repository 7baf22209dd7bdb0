# SPDX-License-Identifier: BSD-3-Clause
"""Forward and backward of the RoI poolings, one sample of every bin at a time.

The poolings differ in the positions of a bin's samples and their number; a `PoolPlan` holds both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import bilinear
from .bilinear import Samples

# Elements of one sample over all bins that are worked on at once; see conv.py.
_CHUNK = 1 << 22


class PoolPlan(NamedTuple):
    """How R RoIs are pooled from a table whose rows are cut into K parts."""

    # One for each sample of a bin, [R', ph, pw, K], and which R' of the RoIs take it (None: all).
    samples: Callable[[], Iterator[tuple[Samples, Tensor | None]]]
    divisor: Tensor  # samples that are averaged, at least 1, broadcast to [R, ph, pw, K]
    scale_y: Tensor  # derivative of a sample's y by its offset, broadcast to [R, ph, pw, K]
    scale_x: Tensor


def pool(table: Tensor, plan: PoolPlan, size: Sequence[int]) -> Tensor:
    """Return the mean sample of every bin, [R, ph, pw, K, C/K] = `size`."""
    total = table.new_zeros(size)
    for samples, chosen in plan.samples():
        value = bilinear.blend(bilinear.read(table, samples), samples)
        # No RoI is chosen twice, so nothing races.
        total = total + value if chosen is None else total.index_add(0, chosen, value)
    return total / plan.divisor.unsqueeze(-1)


def pool_backward(
    table: Tensor, grad_table: Tensor | None, plan: PoolPlan, grad: Tensor, mask: Tensor | None
) -> Tensor:
    """Add into `grad_table`; return the gradients along offset x, offset y and mask.

    Args:
        table: rows [rows, C/K]; grad_table alike.
        grad: gradient of the masked bins, [R, ph, pw, K, C/K].
        mask: [R, ph, pw, 1].

    Returns:
        [3, R, ph, pw, K]; that of the mask is still to be summed over K.
    """
    grad = grad / plan.divisor.unsqueeze(-1)
    total = grad.new_zeros(3, *grad.shape[:-1])
    for samples, chosen in plan.samples():
        g = grad if chosen is None else grad[chosen]
        if grad_table is not None:
            m = mask if mask is None or chosen is None else mask[chosen]
            bilinear.scatter(grad_table, samples, g, m)
        value, along_y, along_x = bilinear.slopes(bilinear.read(table, samples), samples, g)
        terms = torch.stack([along_x, along_y, value])
        if chosen is None:
            total.add_(terms)
        else:
            total.index_add_(1, chosen, terms)
    if mask is not None:
        total[:2] *= mask
    total[0] *= plan.scale_x
    total[1] *= plan.scale_y
    return total


def roi_slices(rois: Tensor, per_roi: int) -> Iterator[slice]:
    """Cut the RoIs into slices of bounded work; without RoIs there is one empty slice."""
    size = max(1, _CHUNK // int(per_roi))  # loops need numbers, also when traced
    for start in range(0, max(int(rois.shape[0]), 1), size):
        yield slice(start, min(start + size, rois.shape[0]))


def split_rois(input: Tensor, rois: Tensor) -> tuple[Tensor, ...]:
    """Return each RoI's first table row and x1, y1, x2, y2: NaN for no image or no finite box."""
    rois = rois.to(bilinear.compute_dtype(input))
    image, corners = rois[:, 0], rois[:, 1:]
    valid = (image >= 0) & (image < input.shape[0]) & corners.isfinite().all(1)
    image = torch.where(valid, image, 0).long() * (input.shape[2] * input.shape[3] + 1)
    corners = torch.where(valid.unsqueeze(1), corners, torch.nan)
    return tuple(t.view(-1, 1, 1, 1) for t in (image, *corners.unbind(1)))


def bin_numbers(size: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers of the bins' rows and columns, to broadcast with [R, ph, pw, K]."""
    rows = torch.arange(size[0], device=like.device, dtype=like.dtype).view(-1, 1, 1)
    return rows, torch.arange(size[1], device=like.device, dtype=like.dtype).view(-1, 1)


def finish(pooled: Tensor, mask: Tensor | None, input: Tensor) -> Tensor:
    """Turn bins [R, ph, pw, K, C/K] into the output."""
    pooled = pooled.flatten(-2)
    if mask is not None:
        pooled = pooled * mask.to(pooled.dtype).permute(0, 2, 3, 1)
    return pooled.permute(0, 3, 1, 2).to(input.dtype)


def as_bins(
    grad_output: Tensor, mask: Tensor | None, dtype: torch.dtype, classes: int
) -> tuple[Tensor, Tensor | None]:
    """Return grad_output as [R, ph, pw, K, C/K] and mask as [R, ph, pw, 1]."""
    grad = grad_output.to(dtype).permute(0, 2, 3, 1).unflatten(-1, (classes, -1))
    return grad, None if mask is None else mask.to(dtype).permute(0, 2, 3, 1)


def select(
    needs: Sequence[bool],
    operands: tuple[Tensor, Tensor | None, Tensor | None],
    grad_table: Tensor | None,
    grad_offset: Tensor | None,
    grad_mask: Tensor,  # [R, ph, pw, K]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the wanted ones of the gradients of `operands`, in their shape and dtype."""
    input, offset, mask = operands
    return (
        None
        if grad_table is None
        else bilinear.untable(grad_table, *input.shape[2:]).to(input.dtype),
        grad_offset.to(offset.dtype)
        if needs[1] and grad_offset is not None and offset is not None
        else None,
        grad_mask.sum(-1).unsqueeze(1).to(mask.dtype) if needs[2] and mask is not None else None,
    )
