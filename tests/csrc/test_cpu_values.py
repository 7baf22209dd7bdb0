# SPDX-License-Identifier: BSD-3-Clause
"""The CPU kernels against the portable path: outputs and all gradients."""

import pytest
import torch
from cpu_problems import (
    HALF,
    MAKERS,
    assert_close,
    assert_same,
    conv_problem,
    psroi_problem,
    roi_problem,
)

CONVS = {
    "plain": {},
    "no_mask_no_bias": {"mask": False, "bias": False},
    "groups": {"groups": 2, "channels": 8, "out_channels": 6},
    "deform_groups": {"deform_groups": 3},
    "crossing_groups": {"groups": 3, "deform_groups": 2, "channels": 12, "out_channels": 9},
    "crossing_groups_in_slices": {
        "groups": 3, "deform_groups": 7, "channels": 42, "out_channels": 21, "batch": 1,
    },
    "depthwise": {"groups": 5, "channels": 5, "out_channels": 10, "deform_groups": 5},
    "one_channel": {"channels": 1, "out_channels": 1},
    "odd_channels": {"channels": 37, "out_channels": 35},
    "several_spans": {"channels": 70, "out_channels": 33, "size": (5, 6)},
    "wide_slices": {"channels": 130, "out_channels": 3, "size": (5, 6)},
    "many_pixels": {"size": (33, 21), "stride": (1, 1), "batch": 1, "channels": 3},
    "one_by_one": {"kernel": (1, 1), "padding": (0, 0)},
    "large_kernel": {"kernel": (5, 4), "padding": (4, 3), "dilation": (1, 2)},
    "narrow_map": {"size": (17, 1), "kernel": (3, 1), "padding": (1, 0), "stride": (1, 1)},
    "far_offsets": {"spread": 20.0},
}  # fmt: skip
ROIS = {
    "adaptive": {},
    "sampled": {"sampling": 2},
    "no_offset_no_mask": {"offset": False, "mask": False},
    "no_mask": {"mask": False, "sampling": 3},
    "odd_channels": {"channels": 37},
    "several_slices": {"channels": 70, "rois": 4},
    "one_pixel_map": {"size": (1, 1), "sampling": 2, "scale": 1.0},
    "one_bin": {"pooled": (1, 1)},
}
PSROIS = {
    "groups_and_classes": {},
    "one_group": {"group": 1, "classes": 1},
    "parts_outnumber_bins": {"part": 7, "sampling": 4},
    "no_offset_no_mask": {"offset": False, "mask": False},
    "several_slices": {"out_channels": 39, "classes": 3, "rois": 4},
}


def _cases():
    for kind, cases in (("conv", CONVS), ("roi", ROIS), ("psroi", PSROIS)):
        for name, options in cases.items():
            yield pytest.param(kind, options, id=f"{kind}-{name}")


@pytest.mark.parametrize(("kind", "options"), list(_cases()))
def test_float64_is_the_portable_path(kind, options):
    problem = MAKERS[kind](**options)
    assert_close(problem.results(), problem.expected(), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wide", [False, True], ids=["own_coordinates", "float32_coordinates"])
@pytest.mark.parametrize("kind", MAKERS)
def test_other_dtypes_round_only_once(kind, dtype, wide):
    problem = MAKERS[kind]().to(dtype, torch.float32 if wide else None)
    found = problem.results()
    for name, tensor in found.items():
        operand = problem.tensors["input" if name == "output" else name]
        assert tensor.dtype == operand.dtype, name
    # A half result is one rounding off; sums of some hundred float32 numbers a few.
    tolerance = 2e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert_close(found, problem.expected(), tolerance)


def test_half_coordinates_are_not_rounded_at_wide_maps():
    problem = conv_problem(batch=1, size=(4, 1500), channels=2, out_channels=2)
    half = problem.replace(offset=problem.tensors["offset"].half().double()).to(torch.float16)
    assert_close(half.results(), half.expected(), torch.finfo(torch.float16).eps)


@pytest.mark.parametrize("kind", MAKERS)
def test_only_the_gradients_asked_for_come_back(kind):
    problem = MAKERS[kind]()
    everything = problem.backward()
    for i in range(len(everything)):
        needs = [j == i for j in range(len(everything))]
        some = problem.backward(needs)
        assert torch.equal(some[i], everything[i])
        assert all(t.shape == (0,) for j, t in enumerate(some) if j != i)
    assert all(t.shape == (0,) for t in problem.backward([False] * len(everything)))


@pytest.mark.parametrize("kind", MAKERS)
def test_absent_mask_has_no_gradient(kind):
    problem = MAKERS[kind](mask=False)
    assert problem.backward()[-1].shape == (0,)


@pytest.mark.parametrize("kind", ["roi", "psroi"])
def test_absent_offset_has_no_gradient(kind):
    problem = MAKERS[kind](offset=False)
    assert problem.backward()[1].shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float64, *HALF])
def test_empty_batch(dtype):
    problem = conv_problem(batch=0).to(dtype)
    found = problem.results()
    assert found["output"].shape[0] == 0
    assert found["input"].shape == problem.tensors["input"].shape
    assert not found["weight"].any()
    assert not found["bias"].any()


@pytest.mark.parametrize("make", [roi_problem, psroi_problem])
def test_no_rois(make):
    problem = make(rois=0)
    found = problem.results()
    assert found["output"].shape[0] == 0
    assert not found["input"].any()
    assert found["input"].shape == problem.tensors["input"].shape


def test_map_without_pixels_gives_the_bias():
    problem = conv_problem(size=(0, 3), padding=(5, 1))
    found = problem.results()
    bias = problem.tensors["bias"].view(1, -1, 1, 1)
    assert torch.equal(found["output"], bias.expand_as(found["output"]))
    assert not found["weight"].any()
    assert torch.equal(found["offset"], torch.zeros_like(found["offset"]))


def _integer_positions(kind):
    """Return a pool whose samples all lie on pixels, over both borders of the map."""
    options = {"batch": 1, "rois": 1, "size": (5, 6), "scale": 1.0, "sampling": 1}
    if kind == "roi":
        problem = roi_problem(pooled=(8, 9), **options)  # centres of bins of one pixel
        box = [0.0, -1.0, -1.0, 8.0, 7.0]
    else:
        # At scale 1 a rounded corner is half a pixel off the grid; at 0.5 an odd one is on it.
        problem = psroi_problem(pooled=8, group=1, classes=1, part=8, **{**options, "scale": 0.5})
        box = [0.0, -1.0, -3.0, 14.0, 12.0]
    zero = torch.zeros_like(problem.tensors["offset"])
    return problem.replace(rois=torch.tensor([box], dtype=torch.float64), offset=zero)


@pytest.mark.parametrize("kind", ["roi", "psroi"])
def test_pools_at_integers_are_the_portable_path(kind):
    problem = _integer_positions(kind)
    assert_close(problem.results(), problem.expected(), 1e-12)


@pytest.mark.parametrize("make", [roi_problem, psroi_problem])
@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_box_that_is_none_gives_nan_bins(make, column, wrong):
    problem = make()
    rois = problem.tensors["rois"].clone()
    rois[3, column] = wrong
    found, usual = problem.replace(rois=rois).results(), problem.results()
    assert found["output"][3].isnan().all()
    others = [0, 1, 2, 4, 5, 6]
    assert torch.equal(found["output"][others], usual["output"][others])
    assert found["input"].isfinite().all()


@pytest.mark.parametrize("image", [-1.0, 2.0, 1e9])
def test_box_of_no_image_reads_nothing(image):
    problem = roi_problem()
    rois = problem.tensors["rois"].clone()
    rois[3, 0] = image
    found = problem.replace(rois=rois).results()
    assert found["output"][3].isnan().all()
    assert found["input"].isfinite().all()


@pytest.mark.parametrize("side", [1e3, 1e5, 1e9, 1e30])
def test_huge_boxes_end(side):
    problem = roi_problem(rois=1, batch=1)
    rois = torch.tensor([[0.0, -side, -side / 2, side, side]], dtype=torch.float64)
    assert_same_everywhere(problem.replace(rois=rois))


def assert_same_everywhere(problem):
    """Finite, and the same twice."""
    first = problem.results()
    assert all(t.isfinite().all() for t in first.values())
    assert_same(problem.results(), first)
