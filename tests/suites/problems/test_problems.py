# SPDX-License-Identifier: BSD-3-Clause
"""Problems: reproducible, exact where they promise it, and of the shapes that they say."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.nms import overlap
from suites.problems.conv_offsets import OFFSETS
from suites.problems.layouts import LAYOUTS, lay_out, moved, repeat_values
from suites.problems.nms import THRESHOLDS, NmsProblem
from suites.problems.options import (
    CONV_OPTIONS,
    NMS_OPTIONS,
    POOL_OPTIONS,
    conv_options,
    nms_options,
    pool_options,
)
from suites.problems.problem import ConvProblem, RoIProblem
from suites.problems.rois import ROI_KINDS, undecided_bins
from suites.problems.strategies import (
    EXTREME,
    IN_RANGE,
    conv_problems,
    nms_problems,
    pool_problems,
)

QUICK = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def test_same_seed_same_tensors():
    for problem in (ConvProblem(seed=3), RoIProblem(seed=3), NmsProblem(seed=3)):
        first, second = problem.operands(), problem.but().operands()
        assert all(torch.equal(first[name], second[name]) for name in first)
        other = problem.but(seed=4).operands()
        name = problem.operand_names[0]
        assert not torch.equal(first[name], other[name])


def test_an_operand_does_not_depend_on_which_others_there_are():
    whole, bare = ConvProblem().operands(), ConvProblem(bias=False, mask=False).operands()
    assert torch.equal(whole["weight"], bare["weight"])
    assert bare["mask"] is None


@QUICK
@given(problem=conv_problems(offsets=IN_RANGE + EXTREME))
def test_shapes_are_those_of_a_convolution(problem):
    operands = problem.rounded()
    plain = torch.nn.functional.conv2d(
        operands["input"], operands["weight"], operands["bias"],
        **problem.options(), groups=problem.groups,
    )  # fmt: skip
    assert plain.shape == problem.output_shape()
    assert operands["offset"].shape == problem.offset_shape
    assert problem.in_channels % problem.deform_groups == 0


@QUICK
@given(problem=conv_problems(dtype=("float32", "float16", "bfloat16")))
def test_float32_coordinates_are_exact(problem):
    """However they are added up, so that no rounding decides on which side of a kink one lies."""
    offset = problem.rounded()["offset"]
    for exact, narrow in zip(problem.points(offset), problem.points(offset.float()), strict=True):
        near = exact.abs() < 128
        assert torch.equal(narrow.double()[near], exact[near])


def test_kink_offsets_lie_on_every_kind_of_kink():
    problem = ConvProblem(offsets="kink", batch=4)
    for axis, size in enumerate((problem.height, problem.width)):
        place = problem.points(problem.rounded()["offset"])[axis]
        for kink in (-1, 0, size - 1, size):
            assert (place == kink).any()
            assert ((place - kink).abs() < 0.01).sum() > (place == kink).sum()


@pytest.mark.parametrize("kind", OFFSETS)
def test_every_kind_of_offset_is_what_it_says(kind):
    offset = ConvProblem(offsets=kind).rounded()["offset"]
    assert {
        "zero": not offset.any(),
        "tiny": 0 < offset.abs().max() < 0.01,
        "small": 1 < offset.abs().max() < 10,
        "smooth": ((offset - offset.floor() - 0.5).abs() <= 0.41).all(),
        "large": offset.abs().max() > 10,
        "integer": torch.equal(offset, offset.round()),
        "kink": offset.isfinite().all(),
        "far": offset.abs().min() > 900,
        "nan": offset.isnan().any() and not offset.isnan().all(),
        "infinite": offset.isinf().any() and not offset.isnan().any(),
        "out_of_range": offset.abs().max() > 1e9,
    }[kind]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (4,), (2, 3), (0, 3, 2, 2)])
def test_layout_keeps_the_values(layout, shape):
    values = repeat_values(torch.randn(shape), layout)
    placed = lay_out(values, layout)
    assert torch.equal(placed, values)
    assert placed.shape == values.shape


def test_layouts_are_what_they_say():
    values = torch.randn(3, 4, 5, 2)
    assert lay_out(values, "channels_last").is_contiguous(memory_format=torch.channels_last)
    assert lay_out(values, "transposed").stride() == (40, 10, 1, 5)
    crop = lay_out(values, "crop")  # of [3, 4, 6, 5]
    assert (crop.stride(), crop.storage_offset()) == ((120, 30, 5, 1), 6)
    assert lay_out(values[..., :1], "crop").stride() == (96, 24, 4, 1)  # one column of four
    crop = lay_out(values, "channels_last_crop")  # of [3, 6, 5, 4] in memory
    assert (crop.stride(), crop.storage_offset()) == ((120, 1, 20, 4), 24)
    assert torch.as_strided(crop, (360,), (1,), 0).isnan().sum() == 360 - values.numel()
    strided = lay_out(values, "strided")
    assert strided.stride(-1) == 2
    around = torch.as_strided(strided, (240,), (1,))
    assert around[1::2].isnan().all()
    assert lay_out(repeat_values(values, "expanded"), "expanded").stride(0) == 0
    assert lay_out(values, "storage_offset").storage_offset() == 1
    assert lay_out(values.half(), "storage_offset").data_ptr() % 16 != 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_moving_keeps_the_layout(layout):
    values = torch.arange(120.0).view(3, 4, 5, 2)
    placed = lay_out(repeat_values(values, layout), layout)
    there = moved(placed, "cpu")
    assert torch.equal(there, placed)
    assert (there.stride(), there.storage_offset()) == (placed.stride(), placed.storage_offset())


def test_half_operands_are_rounded_once():
    problem = ConvProblem(dtype="float16", dtypes=(("offset", "float32"),))
    exact, given_ = problem.rounded(), problem.operands()
    assert given_["input"].dtype == torch.float16
    assert given_["offset"].dtype == torch.float32
    assert torch.equal(given_["input"].double(), exact["input"])


@QUICK
@given(problem=conv_problems(offsets=IN_RANGE + EXTREME))
def test_every_convolution_option_is_a_listed_one(problem):
    for heading, name in conv_options(problem).items():
        assert name in CONV_OPTIONS[heading]


@QUICK
@given(problem=pool_problems())
def test_every_pooling_option_is_a_listed_one(problem):
    for heading, names in pool_options(problem).items():
        for name in names if isinstance(names, tuple) else (names,):
            assert name in POOL_OPTIONS[heading]


@QUICK
@given(problem=nms_problems())
def test_every_suppression_option_is_a_listed_one(problem):
    for heading, name in nms_options(problem).items():
        assert name in NMS_OPTIONS[heading]


@QUICK
@given(problem=nms_problems(boxes=("grid", "nested", "inverted")))
def test_overlaps_equal_a_threshold_or_differ_by_more_than_rounding(problem):
    for boxes in problem.rounded()["boxes"][:, :20].tolist():
        overlaps = [overlap(one, other) for one, other in itertools.combinations(boxes, 2)]
        distances = [abs(o - t) for o, t in itertools.product(overlaps, THRESHOLDS)]
        assert not [d for d in distances if 0 < d < 1e-6]


@pytest.mark.parametrize("kind", ROI_KINDS)
def test_every_kind_of_roi_is_what_it_says(kind):
    problem = RoIProblem(rois=(kind,) * 5, height=8, width=12, scale=0.5)
    boxes = problem.rounded()["rois"]
    start, end = boxes[:, 1:3], boxes[:, 3:]
    size = torch.tensor([24.0, 16.0])
    assert {
        "inside": ((start >= 0) & (end <= size) & (start < end)).all(),
        "whole": ((start == 0) & (end == size)).all(),
        "border": (start < 0).all(),
        "outside": (start > size + 8).all(),
        "degenerate": (start == end).all(),
        "inverted": (start > end).all(),
        "huge": ((end - start) > 6 * size).all(),
        "halves": (boxes[:, 1:] % 1 == 0.5).all(),
    }[kind]


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(problem=pool_problems(dtype="float64"), smaller=st.integers(1, 3))
def test_undecided_bins_have_no_gradient(problem, smaller):
    grad = problem.but(seed=smaller).rounded_grad_output()
    assert not grad[undecided_bins(problem.but(seed=smaller))].any()
