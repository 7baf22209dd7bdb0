# SPDX-License-Identifier: BSD-3-Clause
"""The options that a problem covers, and all that a whole run must cover.

`conv_options`, `pool_options`, `pyramid_options` and `nms_options` name what a problem covers; the
tables `CONV_OPTIONS` and so on list every name. The suite fails if one was never generated.
"""

from __future__ import annotations

from suites.problems.conv_offsets import OFFSETS
from suites.problems.layouts import LAYOUTS
from suites.problems.nms import BOX_KINDS, NMS_DTYPES, SCORE_KINDS, THRESHOLDS, NmsProblem
from suites.problems.problem import DTYPES, ConvProblem, RoIProblem
from suites.problems.pyramid import PyramidProblem
from suites.problems.rois import POOL_OFFSETS, ROI_KINDS

BATCHES = (2, 1, 3, 0, 5, 7, 33, 37, 64, 65)


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
        "float32 among half operands": " and ".join(mixed) or "same",
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
        **_layouts(problem, _LAID_OUT, {"bias": problem.bias, "mask": problem.mask}),
    }


def _layouts(problem, names, present: dict[str, bool]) -> dict[str, str]:
    """The layouts of the operands that are there."""
    there = [name for name in names if present.get(name, True)]
    return {f"layout of {name}": problem.layout(name) for name in there}


_LAID_OUT = ("input", "offset", "weight", "bias", "mask", "grad_output")
_LAID_OUT_IN_POOLS = ("input", "rois", "offset", "mask", "grad_output")
_YES_NO = ("True", "False")
CONV_OPTIONS: dict[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "float32 among half operands": ("same", "offset", "mask", "offset and mask"),
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


def pool_options(problem: RoIProblem) -> dict[str, str | tuple[str, ...]]:
    """The options that a pooling problem covers: a name, or several, for each heading."""
    rois = tuple(sorted(set(problem.rois))) or ("no rois",)
    parts = "own" if problem.part_size is None else str(problem.part_size)
    offset = problem.offsets != "none"
    return {
        "kind": problem.kind,
        "dtype": problem.dtype,
        "rois": rois,
        "image": "one wide" if 1 in (problem.height, problem.width) else "other",
        "bins": "square" if problem.bins[0] == problem.bins[1] else "rectangular",
        "samples": str(problem.samples),
        "scale": str(problem.scale),
        "mask": str(problem.mask),
        "offsets": problem.offsets,
        "group size": str(problem.group_size),
        "part size": parts,
        "classes": str(problem.classes),
        "float32 among half operands": tuple(name for name, _ in problem.dtypes) or ("nothing",),
        **_layouts(problem, _LAID_OUT_IN_POOLS, {"mask": problem.mask, "offset": offset}),
    }


POOL_OPTIONS: dict[str, tuple[str, ...]] = {
    "kind": ("roi", "psroi"),
    "dtype": DTYPES,
    "rois": ("no rois", *ROI_KINDS),
    "image": ("one wide", "other"),
    "bins": ("square", "rectangular"),
    "samples": ("0", "1", "2", "3", "4"),
    "scale": ("1.0", "0.5", "0.25", "0.0625"),
    "mask": _YES_NO,
    "offsets": POOL_OFFSETS,
    "group size": ("1", "2", "3"),
    "part size": ("own", "1", "2", "3", "7"),
    "classes": ("1", "2", "3"),
    "float32 among half operands": ("nothing", "rois", "offset", "mask"),
    **{f"layout of {name}": LAYOUTS for name in _LAID_OUT_IN_POOLS},
}


def pyramid_options(problem: PyramidProblem) -> dict[str, str | tuple[str, ...]]:
    """The options that a RoIAlign from several maps covers, as `pool_options`."""
    levels = tuple("padding" if level < 0 else "map" for level in problem.levels)
    unused = set(range(len(problem.maps))) - set(problem.levels)
    return {
        "dtype": problem.dtype,
        "maps": str(len(problem.maps)),
        "rois": tuple(sorted(set(problem.rois))) or ("no rois",),
        "levels": tuple(sorted(set(levels))) or ("no rois",),
        "map without rois": str(bool(unused)),
        "bins": "square" if problem.bins[0] == problem.bins[1] else "rectangular",
        "samples": str(problem.samples),
        "aligned": str(problem.aligned),
        "float32 among half operands": tuple(name for name, _ in problem.dtypes) or ("nothing",),
        "layout of a map": tuple({problem.layout(name) for name in problem.differentiable}),
        **_layouts(problem, ("rois", "grad_output"), {}),
    }


PYRAMID_OPTIONS: dict[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "maps": ("1", "2", "3", "4", "8"),
    "rois": ("no rois", *ROI_KINDS),
    "levels": ("no rois", "padding", "map"),
    "map without rois": _YES_NO,
    "bins": ("square", "rectangular"),
    "samples": ("0", "1", "2", "3", "4"),
    "aligned": _YES_NO,
    "float32 among half operands": ("nothing", "rois"),
    **{f"layout of {name}": LAYOUTS for name in ("a map", "rois", "grad_output")},
}


def nms_options(problem: NmsProblem) -> dict[str, str]:
    """The options that a problem of non-maximum suppression covers."""
    out = problem.max_out - problem.count
    tiles = {0: "none", 1: "one", 64: "a tile", 65: "a tile and one"}
    return {
        "dtype": problem.dtype,
        "batch": str(problem.batch),
        "boxes": tiles.get(problem.count, "other"),
        "kind of boxes": problem.boxes,
        "scores": problem.scores,
        "groups": str(problem.group_count),
        "threshold": str(problem.iou_threshold),
        "most kept": "fewer" if out < 0 else "all" if out == 0 else "more",
        **_layouts(problem, NmsProblem.operand_names, {}),
    }


NMS_OPTIONS: dict[str, tuple[str, ...]] = {
    "dtype": NMS_DTYPES,
    "batch": ("0", "1", "2", "3"),
    "boxes": ("none", "one", "a tile", "a tile and one", "other"),
    "kind of boxes": BOX_KINDS,
    "scores": SCORE_KINDS,
    "groups": ("1", "2", "5"),
    "threshold": tuple(map(str, THRESHOLDS)),
    "most kept": ("fewer", "all", "more"),
    **{f"layout of {name}": LAYOUTS for name in NmsProblem.operand_names},
}
