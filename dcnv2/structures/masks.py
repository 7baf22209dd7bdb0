# SPDX-License-Identifier: BSD-3-Clause
"""Binary masks as runs of pixels, which take the memory of outlines instead of areas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor


class RunLengthMasks:
    """N masks of one image, each a list of runs within the columns of the image.

    It has the shape, the length and the indexing of the tensor [N, H, W] that it stands for, and
    moves between processes and devices like one. `dense()` makes that tensor; so does indexing by
    one number, for one mask.

    Args:
        runs: int32 [R, 3], each (column, top, bottom) with `bottom` exclusive, sorted by mask,
            column and top; every run has a pixel, and those of one mask do not overlap.
        first: int64 [N + 1], the runs of mask k are runs[first[k]:first[k + 1]].
        size: Height and width of the image.
        refit: bool [N], whether a transform turned or cut the object since it was annotated, so
            that its box has to follow from its mask; by default nowhere.
    """

    def __init__(
        self, runs: Tensor, first: Tensor, size: tuple[int, int], refit: Tensor | None = None
    ) -> None:
        self.runs, self.first, self.size = runs, first, size
        if refit is None:
            refit = torch.zeros(len(self), dtype=torch.bool, device=first.device)
        self.refit = refit

    @classmethod
    def from_dense(cls, masks: Tensor) -> RunLengthMasks:
        """Returns the runs of bool or integer [N, H, W]; what is not zero belongs to a mask."""
        count, height, width = masks.shape
        padded = torch.zeros(count, width, height + 2, dtype=torch.int8, device=masks.device)
        padded[..., 1:-1] = masks.transpose(1, 2) != 0
        edges = padded.diff(dim=2)
        owner, column, top = (edges == 1).nonzero(as_tuple=True)
        bottom = (edges == -1).nonzero(as_tuple=True)[2]
        runs = torch.stack([column, top, bottom], dim=1).int()
        return cls(runs, offsets(owner, count), (height, width))

    @classmethod
    def concatenate(cls, parts: Sequence[RunLengthMasks], size: tuple[int, int]) -> RunLengthMasks:
        """Returns the masks of all parts, which are of one image of (height, width)."""
        counts = torch.cat([torch.zeros(1, dtype=torch.int64), *(p.first.diff() for p in parts)])
        runs = torch.cat([torch.zeros(0, 3, dtype=torch.int32), *(part.runs for part in parts)])
        refit = torch.cat([torch.zeros(0, dtype=torch.bool), *(part.refit for part in parts)])
        return cls(runs, counts.cumsum(0), size, refit)

    def __len__(self) -> int:
        return len(self.first) - 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} masks of {self.size[0]} x {self.size[1]})"

    @property
    def shape(self) -> torch.Size:
        """[N, H, W]."""
        return torch.Size([len(self), *self.size])

    @property
    def device(self) -> torch.device:
        """Where the runs are."""
        return self.runs.device

    @property
    def owner(self) -> Tensor:
        """The mask of each run, int64 [R]."""
        return repeated(self.first.diff())

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> RunLengthMasks: ...
    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Tensor | RunLengthMasks:
        """One mask as uint8 [H, W], or the masks that a slice, list, bool or int64 tensor names."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"mask {index} of {len(self)}")
            return self[[index]].dense()[0]
        if isinstance(index, Tensor):
            index = index.to(self.device)
        chosen = torch.arange(len(self), device=self.device)[index]
        counts = self.first.diff()[chosen]
        rows = ranges(self.first[chosen], counts)
        first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return RunLengthMasks(self.runs[rows], first, self.size, self.refit[chosen])

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.dense().cpu().numpy().astype(dtype or np.uint8)

    def dense(self) -> Tensor:
        """Returns the masks as uint8 [N, H, W]."""
        height, width = self.size
        change = torch.zeros(len(self), width, height + 1, dtype=torch.int8, device=self.device)
        column, top, bottom = self.runs.long().unbind(1)
        owner = self.owner
        # Runs of one mask may touch, so that one ends where another begins.
        ones = change.new_ones(()).expand(len(owner))
        change.index_put_((owner, column, top), ones, accumulate=True)
        change.index_put_((owner, column, bottom), -ones, accumulate=True)
        masks = change[..., :-1].cumsum(dim=2, dtype=torch.int8)
        return masks.view(torch.uint8).transpose(1, 2).contiguous()

    def pixels(self, index: int) -> Tensor:
        """Returns the pixels of one mask, numbered down the columns, int64 [area]."""
        low, high = self.first[index : index + 2].tolist()
        column, top, bottom = self.runs[low:high].long().unbind(1)
        return ranges(column * self.size[0] + top, bottom - top)

    def empty(self) -> Tensor:
        """Returns which masks have no pixel, bool [N]."""
        return self.first.diff() == 0

    def areas(self) -> Tensor:
        """Returns the number of pixels of each mask, int64 [N]."""
        lengths = (self.runs[:, 2] - self.runs[:, 1]).long()
        return self.first.new_zeros(len(self)).index_add_(0, self.owner, lengths)

    def windows(self) -> Tensor:
        """Returns the smallest boxes around the masks, int64 [N, 4]; 0, 0, 0, 0 for an empty one.

        Boxes are (x1, y1, x2, y2) along the borders of pixels, so x2 - x1 is a number of columns.
        """
        runs, first = self.runs.cpu().numpy(), self.first.cpu().numpy()
        filled = np.flatnonzero(np.diff(first))
        windows = np.zeros((len(self), 4), np.int64)
        if len(filled):
            begins = first[filled]
            windows[filled, :2] = np.minimum.reduceat(runs[:, :2], begins)
            windows[filled, 2:] = np.maximum.reduceat(runs[:, ::2], begins)
            windows[filled, 2] += 1
        return torch.from_numpy(windows).to(self.device)

    def to(self, *operands: Any, **options: Any) -> RunLengthMasks:
        """Moves the runs to a device; operands are those of `Tensor.to`, dtypes aside."""
        return self._map(lambda tensor: tensor.to(*operands, **options))

    def pin_memory(self) -> RunLengthMasks:
        """Copies the runs to page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Any) -> RunLengthMasks:
        return RunLengthMasks(change(self.runs), change(self.first), self.size, change(self.refit))


def offsets(owner: Tensor, count: int) -> Tensor:
    """Returns where the runs of each of `count` masks begin, int64 [count + 1]; owner is sorted."""
    return torch.searchsorted(owner, torch.arange(count + 1, device=owner.device))


def repeated(counts: Tensor) -> Tensor:
    """Returns counts[0] zeros, counts[1] ones, and so on, int64 [sum of counts]."""
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def ranges(start: Tensor, counts: Tensor) -> Tensor:
    """Returns start[i], start[i] + 1, ... with counts[i] entries for each i, int64."""
    owner = repeated(counts)
    before = counts.cumsum(0) - counts
    return torch.arange(len(owner), device=owner.device) + (start - before)[owner]


def expand_ranges(start: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns i, and start[i], start[i] + 1, ... with counts[i] entries for each i, int64."""
    owner = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return owner, np.arange(len(owner)) + (start - before)[owner]


def split_columns(
    start: np.ndarray, stop: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts runs of pixels, numbered down the columns, at the ends of columns.

    Args:
        start: int64 [R], the first pixel of each run.
        stop: int64 [R], the pixel after its last; every run has a pixel.
        height: Pixels of a column.

    Returns:
        Runs (column, top, bottom), int32 [S, 3], and the run that each is a piece of, int64 [S].
    """
    first = start // height
    piece, column = expand_ranges(first, (stop - 1) // height - first + 1)
    above = column * height
    top = np.maximum(start[piece] - above, 0)
    bottom = np.minimum(stop[piece] - above, height)
    return np.stack([column, top, bottom], axis=1).astype(np.int32), piece
