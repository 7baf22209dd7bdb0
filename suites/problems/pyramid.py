# SPDX-License-Identifier: BSD-3-Clause
"""A RoIAlign from several maps: sizes, options, the level of each RoI, and a seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import reference
from suites.problems.problem import Problem, RoIProblem
from suites.problems.rois import boxes, undecided_among


@dataclass(frozen=True)
class PyramidProblem(Problem):
    """A `multiscale_roi_align`. Its maps are the operands input0, input1 and so on."""

    op = "multiscale_roi_align"
    reference = staticmethod(reference.multiscale_roi_align)

    batch: int = 2
    channels: int = 3
    maps: tuple[tuple[int, int], ...] = ((9, 7), (5, 4), (2, 3))  # heights and widths
    scales: tuple[float, ...] = (0.5, 0.25, 0.125)
    bins: tuple[int, int] = (4, 2)
    samples: int = 2  # a side; 0 is adaptive
    aligned: bool = True
    rois: tuple[str, ...] = ("inside", "border", "inside", "whole")
    levels: tuple[int, ...] = (0, 2, -1, 1)  # of the RoIs; -1 is padding
    dtype: str = "float64"
    dtypes: tuple[tuple[str, str], ...] = ()
    layouts: tuple[tuple[str, str], ...] = ()
    seed: int = 0

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The names of the maps."""
        return tuple(f"input{level}" for level in range(len(self.maps)))

    @property
    def operand_names(self) -> tuple[str, ...]:
        """The maps, the RoIs and their levels."""
        return (*self.differentiable, "rois", "levels")

    def operand_dtype(self, name: str) -> torch.dtype:
        return torch.int64 if name == "levels" else super().operand_dtype(name)

    def output_shape(self) -> tuple[int, ...]:
        return (len(self.rois), self.channels, *self.bins)

    def options(self) -> dict:
        return {
            "spatial_scales": self.scales,
            "output_size": self.bins,
            "sampling_ratio": self.samples,
            "aligned": self.aligned,
        }

    def arguments(self, operands: dict[str, Tensor | None]) -> dict:
        others = {n: t for n, t in operands.items() if n not in self.differentiable}
        return {"inputs": [operands[name] for name in self.differentiable], **others}

    def values(self) -> dict[str, Tensor | None]:
        maps = {
            name: self.normal(name, self.batch, self.channels, *size)
            for name, size in zip(self.differentiable, self.maps, strict=True)
        }
        size = [side / self.scales[0] for side in self.maps[0]]
        rois = boxes(self.rois, self.batch, (size[0], size[1]), self.generator("rois"))
        return {**maps, "rois": rois, "levels": torch.tensor(self.levels, dtype=torch.float64)}

    # ---- one level

    def of_level(self, level: int) -> Tensor:
        """Which RoIs are pooled from a level, [R]."""
        return torch.tensor(self.levels, dtype=torch.int64) == level

    def pooling(self, level: int) -> RoIProblem:
        """A centred pooling of the RoIs of a level, for tensors from elsewhere."""
        height, width = self.maps[level]
        return RoIProblem(
            batch=self.batch,
            channels=self.channels,
            height=height,
            width=width,
            bins=self.bins,
            scale=self.scales[level],
            samples=self.samples,
            rois=("inside",) * int(self.of_level(level).sum()),
            mask=False,
            dtype=self.dtype,
            offsets="none",
        )

    def boxes_of_level(self, level: int, rois: Tensor) -> Tensor:
        """Its RoIs, as boxes that have these samples in a pooling that is always aligned."""
        index, first, last = rois[self.of_level(level)].split([1, 2, 2], dim=1)
        pixel = 1 / self.scales[level]
        if not self.aligned:
            last = torch.maximum(last, first + pixel) + pixel / 2
            first = first + pixel / 2
        return torch.cat([index, first, last], dim=1)

    def undecided(self) -> Tensor:
        """Bins [R, C, ph, pw] in which rounding decides on which side of a jump a sample is."""
        rois = self.rounded()["rois"]
        undecided = torch.zeros(self.output_shape(), dtype=torch.bool)
        for level in range(len(self.maps)):
            here = self.boxes_of_level(level, rois)
            undecided[self.of_level(level)] = undecided_among(self.pooling(level), here, None)
        return undecided

    def rounded_grad_output(self) -> Tensor:
        """Zero in undecided bins."""
        undecided = self.undecided()
        if self.layout("grad_output") == "expanded":  # one gradient for all RoIs
            undecided = undecided.any(0, keepdim=True)
        return super().rounded_grad_output().masked_fill(undecided, 0.0)
