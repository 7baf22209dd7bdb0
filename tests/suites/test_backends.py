# SPDX-License-Identifier: BSD-3-Clause
"""Backends: calling conventions, what they support, and implementations that crash."""

import os
import signal

import pytest
import torch

import reference
from suites import backends
from suites.backends import Target, convention_of, get_backend
from suites.evaluation import expected
from suites.isolation import run_isolated
from suites.problems import ConvProblem, RoIProblem


def as_torchvision(input, offset, weight, bias=None, stride=1, padding=0, dilation=1, mask=None):
    """A user's function; no mask and no bias are allowed."""
    return reference.deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


def as_mmcv(x, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups):
    """Groups must be what the shapes say."""
    assert x.shape[1] == groups * weight.shape[1]
    assert offset.shape[1] == 2 * deform_groups * weight[0, 0].numel()
    return reference.deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)


def as_charlesshang(
    input, offset, mask, weight, bias, stride, padding, dilation, deformable_groups
):
    """Bias and mask are always there."""
    assert deformable_groups == mask.shape[1] // weight[0, 0].numel()
    assert bias.shape == weight.shape[:1]
    return reference.deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


def crashing(input, offset, weight, bias, stride, padding, dilation, mask):
    """As one that reads outside its memory."""
    os.kill(os.getpid(), signal.SIGSEGV)


def raising(input, offset, weight, bias, stride, padding, dilation, mask):
    """Does not know what to do."""
    raise RuntimeError("not that offset")


@pytest.mark.parametrize("name", ["as_torchvision", "as_mmcv", "as_charlesshang"])
@pytest.mark.parametrize("given", [{}, {"bias": False}, {"mask": False}])
def test_conventions_reach_the_same_operands(name, given):
    problem = ConvProblem(groups=1, **given)
    target = Target(get_backend(f"{__name__}:{name}"), "cpu")
    assert target.supports(problem) is None
    got, want = target.run(problem), expected(problem)
    assert got.keys() == want.keys()
    for result in want:
        torch.testing.assert_close(got[result], want[result])


def test_convention_is_told_by_argument_names():
    assert convention_of(as_torchvision) == "torchvision"
    assert convention_of(as_mmcv) == "mmcv"
    assert convention_of(as_charlesshang) == "charlesshang"
    assert convention_of(max) == "torchvision"


def test_convention_may_be_named():
    assert get_backend(f"{__name__}:as_torchvision@mmcv")._convention == "mmcv"
    with pytest.raises(ValueError, match="convention"):
        get_backend(f"{__name__}:as_torchvision@caffe")


def test_unknown_backends_are_errors_that_name_the_known_ones():
    with pytest.raises(ValueError, match="torchvision"):
        get_backend("torchvison")


def test_unsupported_problems_have_reasons():
    torchvision, mmcv = backends.Torchvision(), backends.Mmcv()
    half = ConvProblem(dtype="float16")
    assert torchvision.supports(half, "cpu") == "no float16 on the CPU"
    assert torchvision.supports(half, "cuda") is None
    assert torchvision.supports(half.but(dtypes=(("mask", "float32"),)), "cuda")
    assert torchvision.supports(RoIProblem(), "cpu") == "no deform_roi_pool"
    assert mmcv.supports(RoIProblem(mask=False), "cpu") is None
    assert mmcv.supports(RoIProblem(kind="psroi"), "cpu")
    charlesshang = get_backend(f"{__name__}:as_charlesshang")
    assert charlesshang.supports(ConvProblem(groups=2), "cpu") == "no groups"
    assert charlesshang.supports(RoIProblem(), "cpu") == "no deform_roi_pool"


def test_module_may_declare_what_it_supports(monkeypatch):
    monkeypatch.setitem(globals(), "supports", lambda problem: "only what I like")
    backend = get_backend(f"{__name__}:as_torchvision")
    assert backend.supports(ConvProblem(), "cpu") == "only what I like"


def test_isolated_results_are_the_same():
    target = Target(get_backend(f"{__name__}:as_torchvision"), "cpu")
    problem = ConvProblem(offsets="nan", dtype="float16")
    got, want = run_isolated(target, problem), target.run(problem)
    assert got.keys() == want.keys()
    for name, result in want.items():
        torch.testing.assert_close(got[name], result, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "message"), [("crashing", "exit code -11"), ("raising", "not that")]
)
def test_crash_is_a_failed_claim(name, message):
    target = Target(get_backend(f"{__name__}:{name}"), "cpu")
    with pytest.raises(AssertionError, match=message):
        run_isolated(target, ConvProblem())
