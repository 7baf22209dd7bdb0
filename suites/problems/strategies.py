# SPDX-License-Identifier: BSD-3-Clause
"""Hypothesis strategies that generate problems.

A strategy generates sizes, options and a seed; tensors come from the seed. Sizes stay tiny. Every
default is asymmetric: height and width, both axes of kernel, stride, padding and dilation, groups
and deform groups are picked independently.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from hypothesis import strategies as st

from suites.problems.conv_offsets import OFFSETS
from suites.problems.layouts import LAYOUTS
from suites.problems.nms import BOX_KINDS, NMS_DTYPES, SCORE_KINDS, THRESHOLDS, NmsProblem
from suites.problems.options import BATCHES
from suites.problems.problem import DTYPES, ConvProblem, Problem, RoIProblem
from suites.problems.pyramid import PyramidProblem
from suites.problems.rois import POOL_OFFSETS, ROI_KINDS

EXTREME = ("nan", "infinite", "out_of_range")
PRECISE = ("float64", "float32")
IN_RANGE = tuple(kind for kind in OFFSETS if kind not in EXTREME)
KERNELS = ((3, 3), (3, 2), (1, 1), (2, 3), (2, 2), (1, 5), (4, 1), (5, 3))
SIZES = (4, 3, 5, 6, 7, 8, 9, 10, 11, 12)
WIDTHS = (5, 7, 16, 17, 24, 33)
_MAPS = ((4, 5), (1, 3), (7, 8), (9, 1), (3, 4), (1, 1))  # heights and widths
_PICKS = 48  # more than any problem needs
_WORK = 60_000  # samples times channels of one convolution, about


class _Picker:
    """Picks a value for each option, uniformly and independently of all others.

    All picks come from one generated string of bytes. With a draw for each, Hypothesis copies what
    it drew for one option to others of the kind, and some layouts are missing in a hundred
    problems. The bytes still shrink: 0 picks the first, simplest value.
    """

    def __init__(self, draw):
        self._bytes = iter(draw(st.binary(min_size=_PICKS, max_size=_PICKS)))
        self.seed = int.from_bytes(bytes(next(self._bytes) for _ in range(2)), "big")

    def one_of(self, name: str, values):
        """One of some values, of which the first is the simplest; the name documents the call."""
        return values[next(self._bytes) % len(values)]

    def pair(self, name: str, *values):
        """(y, x), picked independently."""
        return self.one_of(name + " y", values), self.one_of(name + " x", values)

    def layouts(self, names, layouts):
        """A layout for every operand; in a third of the problems all are contiguous."""
        if not self.one_of("any layout", (False, True, True)):
            return ()
        picked = [(name, self.one_of(f"layout of {name}", layouts)) for name in names]
        return tuple((name, layout) for name, layout in picked if layout != "contiguous")

    def mixed(self, dtype, names):
        """Which operands are float32 although the problem is of a half type."""
        if not dtype.endswith("16"):
            return ()
        wide = [self.one_of(f"{name} in float32", (False, True)) for name in names]
        return tuple((n, "float32") for n, w in zip(names, wide, strict=True) if w)


_preferred: ContextVar[tuple[str, ...]] = ContextVar("dtypes", default=DTYPES)


@contextlib.contextmanager
def preferring(dtypes: tuple[str, ...]) -> Iterator[None]:
    """Generate only these dtypes wherever a strategy has the choice."""
    token = _preferred.set(dtypes)
    try:
        yield
    finally:
        _preferred.reset(token)


def _several(values: str | tuple[str, ...] | None) -> tuple[str, ...]:
    values = (values,) if isinstance(values, str) else values or DTYPES
    return tuple(value for value in values if value in _preferred.get()) or values


@st.composite
def conv_problems(
    draw, dtype=None, offsets=IN_RANGE, layouts=LAYOUTS, empty=True, vectors=False
) -> ConvProblem:
    """Convolution problems.

    Args:
        draw: given by Hypothesis.
        dtype: of input, weight and bias, or several to choose from; any if None.
        offsets: kinds of offsets to choose from.
        layouts: layouts to choose from.
        empty: whether the batch may be empty.
        vectors: whether channels of every group are multiples of 8, as tensor-core kernels
            require, and maps are wider than one tile of such kernels.
    """
    pick = _Picker(draw)
    dtype = pick.one_of("dtype", _several(dtype))
    kernel = pick.one_of("kernel", KERNELS)
    stride, dilation = pick.pair("stride", 1, 1, 2, 3), pick.pair("dilation", 1, 1, 1, 2, 3)
    batches = (2, 1, 3) if vectors else BATCHES
    batch = pick.one_of("batch", batches if empty else [n for n in batches if n])
    groups, deform_groups, in_channels, out_channels = (
        _vectors(pick) if vectors else _channels(pick, small=batch > 7)
    )
    height, width, padding = _image(pick, kernel, dilation, WIDTHS if vectors else SIZES[1:])
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
        bias=pick.one_of("bias", (False, True)),
        mask=pick.one_of("mask", (False, True)),
        dtype=dtype,
        dtypes=pick.mixed(dtype, ("offset", "mask")),
        layouts=pick.layouts((*ConvProblem.operand_names, "grad_output"), layouts),
        offsets=pick.one_of("offsets", offsets),
        seed=pick.seed,
    )
    return problem if vectors else _shrunk_to_budget(problem)


def _vectors(pick: _Picker):
    """As `_channels`; a multiple of 8 for every group of any kind."""
    groups = pick.one_of("groups", (1, 2))
    deform_groups = pick.one_of("deform groups", (1, 2, 4))
    in_channels = 8 * math.lcm(groups, deform_groups) * pick.one_of("channels", (1, 2, 3, 9))
    return groups, deform_groups, in_channels, 8 * groups * pick.one_of("outs", (1, 2, 3, 9))


def _channels(pick: _Picker, small: bool):
    """Groups, deform groups, channels in and out; deform groups need not divide groups.

    Fast kernels take channels in multiples of 8, so some problems have those.
    """
    if not small and pick.one_of("wide", (False, False, True)):
        groups, deform_groups = (
            pick.one_of("groups", (1, 2)),
            pick.one_of("deform groups", (1, 2, 4)),
        )
        wide = (8, 16, 32, 64)
        return groups, deform_groups, pick.one_of("channels", wide), pick.one_of("outs", wide)
    groups = pick.one_of("groups", (1, 2, 3))
    deform_groups = pick.one_of("deform groups", (1, 2, 3, 4, 6))
    in_channels = math.lcm(groups, deform_groups) * pick.one_of("channels", (1, 2, 3))
    return groups, deform_groups, in_channels, groups * pick.one_of("outs", (1, 2, 5))


def _image(pick: _Picker, kernel, dilation, widths):
    """Height, width, and a padding with which the kernel fits."""
    shape = pick.one_of("image", ("free", "free", "free", "row", "column", "below kernel"))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if shape == "below kernel":
        height, width = (max(1, r - pick.one_of(f"below {r}", (1, 2))) for r in reach)
    else:
        height = 1 if shape == "row" else pick.one_of("height", SIZES)
        width = 1 if shape == "column" else pick.one_of("width", widths)
    padding = pick.pair("padding", 0, 1, 2, 3)
    needed = [max(0, math.ceil((r - n) / 2)) for r, n in zip(reach, (height, width), strict=True)]
    return height, width, tuple(max(p, n) for p, n in zip(padding, needed, strict=True))


def _shrunk_to_budget(problem: ConvProblem) -> ConvProblem:
    """A large batch gets few channels and a small image, so that every problem is quick."""

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


def having(operand: str) -> Callable[[Problem], Problem]:
    """A function that adds an operand to a problem, since bias and mask are optional."""
    optional = {"bias", "mask"} & {operand}
    return lambda problem: problem.but(**dict.fromkeys(optional, True))


@st.composite
def pool_problems(draw, kind=None, dtype=None, offsets=POOL_OFFSETS, layouts=LAYOUTS) -> RoIProblem:
    """RoI pooling problems.

    Args:
        draw: given by Hypothesis.
        kind: "roi" or "psroi"; either if None.
        dtype: of the input, or several to choose from; any if None.
        offsets: kinds of offsets to choose from.
        layouts: layouts to choose from.
    """
    pick = _Picker(draw)
    kind = kind or pick.one_of("kind", ("roi", "psroi"))
    dtype = pick.one_of("dtype", _several(dtype))
    exact = pick.one_of("exact", (True, False))  # powers of two, so coordinates are not rounded
    bins = pick.pair("bins", *((2, 1, 4) if exact else (3, 7, 5, 1)))
    group_size, part_size, classes = 1, None, 1
    samples = pick.one_of("samples", (2, 1, 4) if exact else (2, 3, 0))
    if kind == "psroi":
        bins, samples = (bins[0], bins[0]), max(samples, 1)
        group_size = pick.one_of("group size", (1, 2, 3))
        part_size = pick.one_of("part size", (None, 1, 2, 3, 7))
        classes = pick.one_of("classes", (1, 2, 3))
    count = pick.one_of("rois", (1, 0, 2, 3, 4, 5))
    names = RoIProblem.operand_names
    return RoIProblem(
        kind=kind,
        batch=pick.one_of("batch", (2, 1, 3)),
        channels=classes * pick.one_of("channels", (1, 3, 8) if group_size == 1 else (1, 2)),
        height=pick.one_of("height", (4, 1, 7, 9)),
        width=pick.one_of("width", (5, 1, 3, 8)),
        bins=bins,
        scale=pick.one_of("scale", (1.0, 0.5, 0.25, 0.0625)),
        samples=samples,
        offset_scale=pick.one_of("offset scale", (0.125, 0.5) if exact else (0.1, 0.3)),
        group_size=group_size,
        part_size=part_size,
        classes=classes,
        rois=tuple(pick.one_of(f"roi {index}", ROI_KINDS) for index in range(count)),
        mask=pick.one_of("mask", (False, True)),
        dtype=dtype,
        dtypes=pick.mixed(dtype, names[1:]),
        layouts=pick.layouts((*names, "grad_output"), layouts),
        offsets=pick.one_of("offsets", offsets),
        seed=pick.seed,
    )


@st.composite
def pyramid_problems(draw, dtype=None, layouts=LAYOUTS) -> PyramidProblem:
    """Problems of RoIAlign from several maps; arguments as in `pool_problems`."""
    pick = _Picker(draw)
    dtype = pick.one_of("dtype", _several(dtype))
    exact = pick.one_of("exact", (True, False))  # powers of two, so coordinates are not rounded
    levels = pick.one_of("levels", (2, 1, 3, 4, 8))
    finest = pick.one_of("finest scale", (0.5, 1.0, 0.25))
    count = pick.one_of("rois", (3, 0, 1, 2, 4, 6))
    problem = PyramidProblem(
        batch=pick.one_of("batch", (2, 1, 3)),
        channels=pick.one_of("channels", (1, 3, 8)),
        maps=tuple(pick.one_of("map", _MAPS) for _ in range(levels)),
        scales=tuple(finest / 2**level for level in range(levels)),
        bins=pick.pair("bins", *((2, 1, 4) if exact else (3, 7, 5, 1))),
        samples=pick.one_of("samples", (2, 1, 4) if exact else (2, 3, 0)),
        aligned=pick.one_of("aligned", (True, False)),
        rois=tuple(pick.one_of("roi", ROI_KINDS) for _ in range(count)),
        levels=tuple(pick.one_of("level", range(-1, levels)) for _ in range(count)),
        dtype=dtype,
        dtypes=pick.mixed(dtype, ("rois",)),
        seed=pick.seed,
    )
    names = (*problem.differentiable, "rois", "grad_output")
    return problem.but(layouts=pick.layouts(names, layouts))


@st.composite
def nms_problems(
    draw, dtype=None, boxes=BOX_KINDS, scores=SCORE_KINDS, layouts=LAYOUTS
) -> NmsProblem:
    """Problems of batched non-maximum suppression.

    Args:
        draw: given by Hypothesis.
        dtype: of boxes and scores; any if None.
        boxes: kinds of boxes to choose from.
        scores: kinds of scores to choose from.
        layouts: layouts to choose from.
    """
    pick = _Picker(draw)
    count = pick.one_of("count", (9, 1, 0, 2, 5, 33, 63, 64, 65, 70, 130))
    return NmsProblem(
        batch=pick.one_of("batch", (2, 1, 3, 0)),
        count=count,
        group_count=pick.one_of("groups", (2, 1, 5)),
        max_out=pick.one_of("most kept", (max(count, 1), 1, 4, count + 3, 64)),
        iou_threshold=pick.one_of("threshold", THRESHOLDS),
        boxes=pick.one_of("kind of boxes", boxes),
        scores=pick.one_of("kind of scores", scores),
        extent=pick.one_of("extent", (8, 4, 24)),
        dtype=pick.one_of("dtype", _several(dtype or NMS_DTYPES)),
        layouts=pick.layouts(NmsProblem.operand_names, layouts),
        seed=pick.seed,
    )
