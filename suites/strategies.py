# SPDX-License-Identifier: BSD-3-Clause
"""Hypothesis strategies that draw problems, and the options that they must cover.

A strategy draws sizes and options and a seed; tensors come from the seed. Sizes stay tiny. Every
default is asymmetric: height and width, both axes of kernel, stride, padding and dilation, groups
and deform groups are drawn apart. `conv_options` and `pool_options` name what a problem covers;
`CONV_OPTIONS` and `POOL_OPTIONS` list every name, and the suite fails if one was never drawn.
"""

from __future__ import annotations

import math

from hypothesis import strategies as st

from suites.layouts import LAYOUTS
from suites.offsets import OFFSETS
from suites.problems import ConvProblem, RoIProblem
from suites.regions import POOL_OFFSETS, REGIONS

DTYPES = ("float64", "float32", "float16", "bfloat16")
STRANGE = ("nan", "infinite", "absurd")
PRECISE = ("float64", "float32")
FINITE = tuple(kind for kind in OFFSETS if kind not in STRANGE)
BATCHES = (2, 1, 3, 0, 5, 7, 33, 37, 64, 65)
SEEDS = st.integers(0, 2**16)
_WORK = 60_000  # samples times channels of one drawn convolution, about


def _pairs(*values):
    """Asymmetric pairs as often as symmetric ones."""
    return st.tuples(st.sampled_from(values), st.sampled_from(values))


def _one_of(draw, dtype: str | tuple[str, ...] | None) -> str:
    return dtype if isinstance(dtype, str) else draw(st.sampled_from(dtype or DTYPES))


@st.composite
def conv_problems(draw, dtype=None, offsets=FINITE, layouts=LAYOUTS, empty=True) -> ConvProblem:
    """Convolution problems.

    Args:
        draw: given by Hypothesis.
        dtype: of input, weight and bias, or several to draw from; any if None.
        offsets: kinds of offsets to draw from.
        layouts: layouts to draw from.
        empty: whether the batch may be empty.
    """
    dtype = _one_of(draw, dtype)
    kernel = draw(st.sampled_from([(3, 3), (3, 2), (1, 1), (2, 3), (2, 2), (1, 5), (4, 1), (5, 3)]))
    stride, dilation = draw(_pairs(1, 1, 2, 3)), draw(_pairs(1, 1, 2, 3))
    padding = draw(_pairs(0, 1, 2, 3))
    batch = draw(st.sampled_from(BATCHES if empty else [n for n in BATCHES if n]))
    groups, deform_groups, in_channels, out_channels = draw(_channels(small=batch > 7))
    height, width, padding = draw(_image(kernel, padding, dilation))
    problem = ConvProblem(
        batch=batch,
        in_channels=in_channels,
        out_channels=out_channels,
        height=height,
        width=width,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        deform_groups=deform_groups,
        bias=draw(st.booleans()),
        mask=draw(st.booleans()),
        dtype=dtype,
        dtypes=draw(_mixed(dtype, ("offset", "mask"))),
        layouts=draw(
            _layouts(("input", "offset", "weight", "bias", "mask", "grad_output"), layouts)
        ),
        offsets=draw(st.sampled_from(offsets)),
        seed=draw(SEEDS),
    )
    return _shrunk_to_budget(problem)


@st.composite
def _channels(draw, small: bool):
    """Groups, deform groups, channels in and out; deform groups need not divide groups.

    Fast kernels take channels in multiples of 8, so a part of the problems has such ones.
    """
    if not small and draw(st.integers(0, 3)) == 0:
        groups, deform_groups = draw(st.sampled_from((1, 2))), draw(st.sampled_from((1, 2, 4)))
        wide = st.sampled_from((16, 8, 32, 64))
        return groups, deform_groups, draw(wide), draw(wide)
    groups = draw(st.sampled_from((1, 2, 3)))
    deform_groups = draw(st.sampled_from((1, 2, 3, 4, 6)))
    in_channels = math.lcm(groups, deform_groups) * draw(st.sampled_from((1, 2, 3)))
    return groups, deform_groups, in_channels, groups * draw(st.sampled_from((1, 2, 5)))


@st.composite
def _image(draw, kernel, padding, dilation):
    """Height, width, and a padding with which the kernel fits."""
    shape = draw(st.sampled_from(("free", "free", "row", "column", "below kernel")))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if shape == "below kernel":
        height, width = (max(1, r - draw(st.integers(1, 2))) for r in reach)
    else:
        height = 1 if shape == "row" else draw(st.integers(3, 12))
        width = 1 if shape == "column" else draw(st.integers(3, 12))
    needed = [max(0, math.ceil((r - n) / 2)) for r, n in zip(reach, (height, width), strict=True)]
    fitting = tuple(max(p, n) for p, n in zip(padding, needed, strict=True))
    return height, width, fitting


@st.composite
def _mixed(draw, dtype, names):
    """Which operands are float32 beside a half type."""
    if not dtype.endswith("16"):
        return ()
    return tuple((name, "float32") for name in names if draw(st.booleans()))


@st.composite
def _layouts(draw, names, layouts):
    """A layout for every operand; half of the problems are all contiguous."""
    if draw(st.booleans()):
        return ()
    drawn = [(name, draw(st.sampled_from(layouts))) for name in names]
    return tuple((name, layout) for name, layout in drawn if layout != "contiguous")


def _shrunk_to_budget(problem: ConvProblem) -> ConvProblem:
    """A large batch gets few channels and a small image, so that a draw stays quick."""

    def work() -> int:
        samples = math.prod(problem.out_size) * problem.batch * problem.taps
        return samples * (problem.in_channels + problem.out_channels * problem.deform_groups)

    unit = math.lcm(problem.groups, problem.deform_groups)
    while work() > _WORK:
        if problem.out_channels > problem.groups and problem.out_channels % 8:
            problem = problem.but(out_channels=problem.groups)
        elif problem.in_channels > unit and problem.in_channels % 8:
            problem = problem.but(in_channels=unit)
        elif max(problem.out_size) > 2 and max(problem.stride) < 7:
            axis = problem.out_size.index(max(problem.out_size))
            stride = list(problem.stride)
            stride[axis] += 1
            problem = problem.but(stride=tuple(stride))
        else:
            break
    return problem


def _kind_of_pair(pair: tuple[int, int]) -> str:
    return f"{pair[0]}" if pair[0] == pair[1] else "asymmetric"


def _divides(a: int, b: int) -> bool:
    return a % b == 0 or b % a == 0


def _multiple(channels: int) -> str:
    return next((f"x{n}" for n in (64, 32, 16, 8) if channels % n == 0), "odd lot")


def conv_options(problem: ConvProblem) -> dict[str, str]:
    """The options that a convolution problem covers: one name for each heading."""
    kernel_h, kernel_w = problem.kernel
    reach = [d * (k - 1) + 1 for k, d in zip(problem.kernel, problem.dilation, strict=True)]
    below = problem.height < reach[0] or problem.width < reach[1]
    narrow = {(True, False): "row", (False, True): "column", (True, True): "1x1"}
    mixed = [name for name, _ in problem.dtypes]
    shape = narrow.get((problem.height == 1, problem.width == 1), "other")
    return {
        "dtype": problem.dtype,
        "offset, mask beside a half": " and ".join(mixed) or "same",
        "batch": str(problem.batch),
        "image": shape,
        "image below kernel": str(below),
        "width": "odd" if problem.width % 2 else "even",
        "kernel": "even" if kernel_h == kernel_w == 2 else "x".join(map(str, problem.kernel)),
        "stride": "larger" if max(problem.stride) > 3 else _kind_of_pair(problem.stride),
        "padding": "larger" if max(problem.padding) > 3 else _kind_of_pair(problem.padding),
        "dilation": _kind_of_pair(problem.dilation),
        "groups": str(problem.groups),
        "deform groups": str(problem.deform_groups),
        "groups and deform groups divide": str(_divides(problem.groups, problem.deform_groups)),
        "input channels": _multiple(problem.in_channels),
        "output channels": _multiple(problem.out_channels),
        "bias": str(problem.bias),
        "mask": str(problem.mask),
        "offsets": problem.offsets,
        **{f"layout of {name}": problem.layout(name) for name in _LAID_OUT},
    }


_LAID_OUT = ("input", "offset", "weight", "mask", "grad_output")
_YES_NO = ("True", "False")
CONV_OPTIONS: dict[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "offset, mask beside a half": ("same", "offset", "mask", "offset and mask"),
    "batch": tuple(map(str, sorted(BATCHES))),
    "image": ("other", "row", "column", "1x1"),
    "image below kernel": _YES_NO,
    "width": ("odd", "even"),
    "kernel": ("1x1", "3x3", "3x2", "2x3", "even", "1x5", "4x1", "5x3"),
    "stride": ("1", "2", "3", "asymmetric", "larger"),
    "padding": ("0", "1", "2", "3", "asymmetric", "larger"),
    "dilation": ("1", "2", "3", "asymmetric"),
    "groups": ("1", "2", "3"),
    "deform groups": ("1", "2", "3", "4", "6"),
    "groups and deform groups divide": _YES_NO,
    "input channels": ("odd lot", "x8", "x16", "x32", "x64"),
    "output channels": ("odd lot", "x8", "x16", "x32", "x64"),
    "bias": _YES_NO,
    "mask": _YES_NO,
    "offsets": OFFSETS,
    **{f"layout of {name}": LAYOUTS for name in _LAID_OUT},
}


@st.composite
def pool_problems(draw, kind=None, dtype=None, offsets=POOL_OFFSETS, layouts=LAYOUTS) -> RoIProblem:
    """RoI pooling problems.

    Args:
        draw: given by Hypothesis.
        kind: "roi" or "psroi"; drawn if None.
        dtype: of the input, or several to draw from; any if None.
        offsets: kinds of offsets to draw from.
        layouts: layouts to draw from.
    """
    kind = kind or draw(st.sampled_from(("roi", "psroi")))
    dtype = _one_of(draw, dtype)
    exact = draw(st.booleans())  # powers of two: samples on a jump are decided
    sides = st.sampled_from((1, 2, 4) if exact else (3, 7, 5, 1))
    bins = (draw(sides), draw(sides))
    group_size, part_size, classes = 1, None, 1
    samples = draw(st.sampled_from((2, 1, 4) if exact else (2, 3, 0)))
    if kind == "psroi":
        bins, samples = (bins[0], bins[0]), max(samples, 1)
        group_size = draw(st.sampled_from((1, 2, 3)))
        part_size = draw(st.sampled_from((None, 1, 2, 3, 7)))
        classes = draw(st.sampled_from((1, 2, 3)))
    regions = draw(st.lists(st.sampled_from(REGIONS), max_size=5))
    names = ("input", "rois", "offset", "mask")
    return RoIProblem(
        kind=kind,
        batch=draw(st.sampled_from((2, 1, 3))),
        channels=classes * draw(st.sampled_from((1, 3, 8) if group_size == 1 else (1, 2))),
        height=draw(st.sampled_from((9, 1, 4, 7))),
        width=draw(st.sampled_from((8, 1, 3, 7))),
        bins=bins,
        scale=draw(st.sampled_from((0.5, 1.0, 0.25, 0.0625))),
        samples=samples,
        offset_scale=draw(st.sampled_from((0.125, 0.5) if exact else (0.1, 0.3))),
        group_size=group_size,
        part_size=part_size,
        classes=classes,
        regions=tuple(regions),
        mask=draw(st.booleans()),
        dtype=dtype,
        dtypes=draw(_mixed(dtype, names[1:])),
        layouts=draw(_layouts((*names, "grad_output"), layouts)),
        offsets=draw(st.sampled_from(offsets)),
        seed=draw(SEEDS),
    )


def pool_options(problem: RoIProblem) -> dict[str, str | tuple[str, ...]]:
    """The options that a pooling problem covers: a name, or several, for each heading."""
    regions = tuple(sorted(set(problem.regions))) or ("no regions",)
    parts = "own" if problem.part_size is None else str(problem.part_size)
    return {
        "kind": problem.kind,
        "dtype": problem.dtype,
        "regions": regions,
        "image": "one wide" if 1 in (problem.height, problem.width) else "other",
        "bins": "square" if problem.bins[0] == problem.bins[1] else "rectangular",
        "samples": str(problem.samples),
        "scale": str(problem.scale),
        "mask": str(problem.mask),
        "offsets": problem.offsets,
        "group size": str(problem.group_size),
        "part size": parts,
        "classes": str(problem.classes),
        **{f"layout of {name}": problem.layout(name) for name in ("input", "grad_output")},
    }


POOL_OPTIONS: dict[str, tuple[str, ...]] = {
    "kind": ("roi", "psroi"),
    "dtype": DTYPES,
    "regions": ("no regions", *REGIONS),
    "image": ("one wide", "other"),
    "bins": ("square", "rectangular"),
    "samples": ("0", "1", "2", "3", "4"),
    "scale": ("1.0", "0.5", "0.25", "0.0625"),
    "mask": _YES_NO,
    "offsets": POOL_OFFSETS,
    "group size": ("1", "2", "3"),
    "part size": ("own", "1", "2", "3", "7"),
    "classes": ("1", "2", "3"),
    "layout of input": LAYOUTS,
    "layout of grad_output": LAYOUTS,
}
