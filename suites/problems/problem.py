# SPDX-License-Identifier: BSD-3-Clause
"""All that defines one call of an operator: sizes, options, dtypes, layouts, and a seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

import reference
from suites.problems.conv_offsets import conv_offsets
from suites.problems.conv_sizes import ConvSizes
from suites.problems.layouts import lay_out, repeat_values
from suites.problems.rois import boxes, pool_offsets, undecided_bins

DTYPES = ("float64", "float32", "float16", "bfloat16")


def dtype_of(name: str) -> torch.dtype:
    """float16 for "float16"."""
    return getattr(torch, name)


class Problem:
    """Common to convolution and pooling problems: operands with dtype, layout and device."""

    op: ClassVar[str]
    operand_names: ClassVar[tuple[str, ...]]
    differentiable: ClassVar[tuple[str, ...]]
    reference: ClassVar[object]

    def options(self) -> dict:
        """Keyword arguments of the operator other than tensors."""
        raise NotImplementedError

    def values(self) -> dict[str, Tensor | None]:
        """Every operand in float64 on the CPU, before it is rounded to its dtype."""
        raise NotImplementedError

    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        raise NotImplementedError

    def arguments(self, operands: dict[str, Tensor | None]) -> dict:
        """The operands as keyword arguments of the operator."""
        return operands

    def single(self, result: Tensor) -> Tensor:
        """An operator's result as one tensor."""
        return result

    def layout(self, name: str) -> str:
        """Layout of an operand, or of the result's gradient ("grad_output")."""
        return dict(self.layouts).get(name, "contiguous")

    def operand_dtype(self, name: str) -> torch.dtype:
        """The dtype of an operand."""
        return dtype_of(dict(self.dtypes).get(name, self.dtype))

    def generator(self, name: str) -> torch.Generator:
        """Random numbers for one operand, independent of which others exist."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {name}".encode()))

    def normal(self, name: str, *shape: int) -> Tensor:
        """Normal float64 values of one operand, from the problem's seed."""
        return torch.randn(shape, generator=self.generator(name), dtype=torch.float64)

    def rounded(self) -> dict[str, Tensor | None]:
        """The operands' exact values: rounded to their dtypes, then in float64, on the CPU."""
        return {
            name: None if value is None else self._rounded(name, value)
            for name, value in self.values().items()
        }

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        value = repeat_values(value, self.layout(name))
        return value.to(self.operand_dtype(name)).to(torch.float64)

    def operands(self, device: str = "cpu") -> dict[str, Tensor | None]:
        """The operands as an implementation receives them."""
        return {
            name: None if value is None else self._placed(name, value, device)
            for name, value in self.rounded().items()
        }

    def rounded_grad_output(self) -> Tensor:
        """Gradient of the result, exact, in float64 on the CPU."""
        return self._rounded("grad_output", self.normal("grad_output", *self.output_shape()))

    def grad_output(self, device: str = "cpu") -> Tensor:
        """Gradient of the result as an implementation receives it."""
        return self._placed("grad_output", self.rounded_grad_output(), device)

    def _placed(self, name: str, value: Tensor, device: str) -> Tensor:
        placed = value.to(self.operand_dtype(name)).to(device)
        return lay_out(placed, self.layout(name))

    def but(self, **changes) -> Problem:
        """The same problem with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class ConvProblem(ConvSizes, Problem):
    """A deformable convolution. Pairs are (y, x)."""

    op = "deform_conv2d"
    operand_names = differentiable = ("input", "offset", "weight", "bias", "mask")
    reference = staticmethod(reference.deform_conv2d)

    batch: int = 2
    in_channels: int = 12
    out_channels: int = 6
    height: int = 7
    width: int = 6
    kernel: tuple[int, int] = (3, 2)
    stride: tuple[int, int] = (2, 1)
    padding: tuple[int, int] = (1, 0)
    dilation: tuple[int, int] = (1, 2)
    groups: int = 2
    deform_groups: int = 3
    bias: bool = True
    mask: bool = True
    dtype: str = "float64"
    dtypes: tuple[tuple[str, str], ...] = ()  # (operand, dtype) where it is another one
    layouts: tuple[tuple[str, str], ...] = ()  # (operand, layout) where it is not contiguous
    offsets: str = "small"
    seed: int = 0

    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.out_size)

    def options(self) -> dict:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def values(self) -> dict[str, Tensor | None]:
        per_group = self.in_channels // self.groups
        modulation = 2 * self.normal("mask", *self._point_shape(1)).sigmoid()
        modulation[modulation < 0.4] = 0.0
        return {
            "input": self.normal("input", self.batch, self.in_channels, self.height, self.width),
            "offset": self._offsets(),
            "weight": self.normal("weight", self.out_channels, per_group, *self.kernel),
            "bias": self.normal("bias", self.out_channels) if self.bias else None,
            "mask": modulation if self.mask else None,
        }

    def _offsets(self) -> Tensor:
        bases = self.points(torch.zeros(self.offset_shape, dtype=torch.float64))
        size, generator = (self.height, self.width), self.generator("offset")
        return conv_offsets(self.offsets, self.offset_shape, size, bases, generator)

    def _point_shape(self, numbers: int) -> tuple[int, ...]:
        return (self.batch, self.deform_groups * self.taps * numbers, *self.out_size)

    @property
    def offset_shape(self) -> tuple[int, ...]:
        """[N, G*K*2, Ho, Wo]."""
        return self._point_shape(2)

    def points(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Sampled rows and columns, each [N, G, K, Ho, Wo]."""
        return reference.sample_points(offset, self.kernel, **self.options())


@dataclass(frozen=True)
class RoIProblem(Problem):
    """A deformable RoI pooling; `kind` is "roi" (centred) or "psroi" (position-sensitive)."""

    operand_names = ("input", "rois", "offset", "mask")
    differentiable = ("input", "offset", "mask")

    kind: str = "roi"
    batch: int = 2
    channels: int = 3  # of the result
    height: int = 9
    width: int = 7
    bins: tuple[int, int] = (4, 2)
    scale: float = 0.5
    samples: int = 2  # a side; 0 is adaptive, for kind "roi"
    offset_scale: float = 0.125  # gamma or trans_std
    group_size: int = 1
    part_size: int | None = None
    classes: int = 1
    rois: tuple[str, ...] = ("inside", "border", "inside")
    mask: bool = True
    dtype: str = "float64"
    dtypes: tuple[tuple[str, str], ...] = ()
    layouts: tuple[tuple[str, str], ...] = ()
    offsets: str = "small"  # "none" for no offset
    seed: int = 0

    @property
    def op(self) -> str:
        return f"deform_{self.kind}_pool"

    @property
    def reference(self):
        return getattr(reference, self.op)

    @property
    def parts(self) -> tuple[int, int]:
        """Bins, or parts, that have an offset of their own."""
        return self.bins if self.part_size is None else (self.part_size, self.part_size)

    def output_shape(self) -> tuple[int, ...]:
        return (len(self.rois), self.channels, *self.bins)

    def options(self) -> dict:
        shared = {"spatial_scale": self.scale}
        if self.kind == "roi":
            own = {"sampling_ratio": self.samples, "gamma": self.offset_scale}
            return {"output_size": self.bins, **shared, **own}
        own = {
            "group_size": self.group_size,
            "part_size": self.part_size,
            "sample_per_part": self.samples,
            "trans_std": self.offset_scale,
        }
        return {"output_size": self.bins[0], **shared, **own}

    def values(self) -> dict[str, Tensor | None]:
        count = len(self.rois)
        channels = self.channels * self.group_size**2
        modulation = self.normal("mask", count, 1, *self.bins).sigmoid()
        size = (self.height / self.scale, self.width / self.scale)
        return {
            "input": self.normal("input", self.batch, channels, self.height, self.width),
            "rois": boxes(self.rois, self.batch, size, self.generator("rois")),
            "offset": None if self.offsets == "none" else self._offsets(),
            "mask": modulation if self.mask else None,
        }

    def _offsets(self) -> Tensor:
        shape = (len(self.rois), 2 * self.classes, *self.parts)
        return pool_offsets(self.offsets, shape, self.generator("offset"))

    def rounded_grad_output(self) -> Tensor:
        """Zero in bins in which rounding decides on which side of a jump a sample is."""
        undecided = undecided_bins(self)
        if self.layout("grad_output") == "expanded":  # one gradient for all RoIs
            undecided = undecided.any(0, keepdim=True)
        return super().rounded_grad_output().masked_fill(undecided, 0.0)
