# SPDX-License-Identifier: BSD-3-Clause
"""Backends: calling conventions, what they support, and implementations that crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

import reference
from suites.backends import peers
from suites.backends.calling_conventions import CONVENTIONS, convention_of
from suites.backends.registry import Target, get_backend
from suites.claims.isolation import run_isolated
from suites.mutants.patches import ROOT
from suites.problems.problem import ConvProblem, RoIProblem
from suites.problems.strategies import conv_problems
from suites.tolerance.expectation import Expectation

QUICK = settings(max_examples=60, derandomize=True, deadline=None, database=None)


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


def as_v1(input, offset, weight, stride, padding, dilation, groups, deform_groups, im2col_step=32):
    """Neither bias nor mask."""
    assert input.shape[1] == groups * weight.shape[1]
    assert offset.shape[1] == 2 * deform_groups * weight[0, 0].numel()
    return reference.deform_conv2d(input, offset, weight, None, stride, padding, dilation, None)


def as_tvdcn(input, weight, offset, mask, bias, stride, padding, dilation, groups):
    """The weight comes second."""
    assert input.shape[1] == groups * weight.shape[1]
    return reference.deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


def as_nobody(input, weight, offset, mask, stride, padding, dilation):
    """An order that no convention has."""


def crashing(input, offset, weight, bias, stride, padding, dilation, mask):
    """As one that reads outside its memory."""
    os.kill(os.getpid(), signal.SIGSEGV)


def raising(input, offset, weight, bias, stride, padding, dilation, mask):
    """Does not know what to do."""
    raise RuntimeError("not that offset")


@pytest.mark.parametrize("name", ["as_torchvision", "as_mmcv", "as_charlesshang", "as_tvdcn"])
@pytest.mark.parametrize("given", [{}, {"bias": False}, {"mask": False}])
def test_conventions_reach_the_same_operands(name, given):
    problem = ConvProblem(groups=1, **given)
    target = Target(get_backend(f"{__name__}:{name}"), "cpu")
    assert target.supports(problem) is None
    got, want = target.run(problem), Expectation(problem).truth
    assert got.keys() == want.keys()
    for result in want:
        torch.testing.assert_close(got[result], want[result])


def test_argument_names_decide_the_convention():
    assert convention_of(as_torchvision) == "torchvision"
    assert convention_of(as_mmcv) == "mmcv"
    assert convention_of(as_charlesshang) == "charlesshang"
    assert convention_of(as_v1) == "v1"
    assert convention_of(as_tvdcn) == "tvdcn"
    assert convention_of(max) == "torchvision"
    with pytest.raises(ValueError, match="input, weight, offset, mask"):
        convention_of(as_nobody)


def test_what_a_convention_has_no_argument_for_is_unsupported():
    target = Target(get_backend(f"{__name__}:as_v1"), "cpu")
    assert target.supports(ConvProblem(mask=False)) == "no bias"
    assert target.supports(ConvProblem(bias=False)) == "no mask"
    problem = ConvProblem(bias=False, mask=False)
    assert target.supports(problem) is None
    got, want = target.run(problem), Expectation(problem).truth
    for result in want:
        torch.testing.assert_close(got[result], want[result])


def test_convention_may_be_named():
    backend = get_backend(f"{__name__}:as_torchvision@mmcv")
    assert backend.convention is CONVENTIONS["mmcv"]
    with pytest.raises(ValueError, match="convention"):
        get_backend(f"{__name__}:as_torchvision@caffe")


def roi_pool_of_mine(input, rois, offset, output_size, spatial_scale, sampling_ratio, gamma):
    """As mmcv's."""
    options = (output_size, spatial_scale, sampling_ratio, gamma)
    return reference.deform_roi_pool(input, rois, offset, None, *options)


def psroi_pool_of_mine(
    data, rois, trans, size, spatial_scale, group_size, part_size, samples, trans_std
):
    """As the authors'."""
    options = (size, spatial_scale, group_size, part_size, samples, trans_std)
    return reference.deform_psroi_pool(data, rois, trans, None, *options)


@pytest.mark.parametrize("kind", ["roi", "psroi"])
@pytest.mark.parametrize("offsets", ["small", "none"])
def test_poolings_have_conventions_too(kind, offsets):
    problem = RoIProblem(kind=kind, bins=(2, 2), offsets=offsets, mask=False)
    target = Target(get_backend(f"{__name__}:{kind}_pool_of_mine"), "cpu")
    assert target.supports(problem) is None
    assert target.supports(problem.but(mask=True)) == "no mask"
    assert target.supports(ConvProblem()) == "no deform_conv2d"
    got, want = target.run(problem), Expectation(problem).truth
    for result in want:
        torch.testing.assert_close(got[result], want[result])
    with pytest.raises(ValueError, match="no mask"):
        target.run(problem.but(mask=True))


@pytest.mark.slow
def test_pool_without_a_mask_fails_no_claim():
    """It refuses masks: claims that need one count it as unsupported."""
    here, folder = Path(__file__).parent, ROOT / "suites" / "correctness"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"),
            str(folder / "test_pools.py"),
            *("--backend", f"{__name__}:roi_pool_of_mine", "--device", "cpu"),
            *("--profile", "brief", "-k", "frozen or multiplies"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(here)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "no mask" in done.stdout


def test_paths_of_cuda_are_asked_for_by_name(monkeypatch):
    """What a path does not take is unsupported; without a name there is no limit again."""
    from dcnv2.ops import library

    limits = []
    monkeypatch.setattr(library, "limit_conv_path", limits.append)
    cuda = library.Library("cuda", Path("libcuda.so"), loaded=True)
    monkeypatch.setattr(library, "LIBRARIES", {"cuda": cuda})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    wgmma, simt = get_backend("dcnv2-wgmma"), get_backend("dcnv2-simt")
    taken = {"float16": "wgmma", "float32": "mma", "float64": "simt"}
    monkeypatch.setattr(library, "conv_path", lambda dtype, _: (taken[dtype], ""))
    fast = ConvProblem(in_channels=32, out_channels=16, deform_groups=2, dtype="float16")
    assert wgmma.supports(fast, "cuda") is None
    assert wgmma.supports(fast, "cpu") == "a path of CUDA"
    assert "float32" in wgmma.supports(fast.but(dtype="float32"), "cuda")
    assert "multiple of 8" in wgmma.supports(fast.but(deform_groups=8), "cuda")
    assert "multiple of 8" in wgmma.supports(fast.but(out_channels=8), "cuda")
    assert simt.supports(fast.but(dtype="float64"), "cuda") is None
    assert simt.supports(RoIProblem(), "cuda") == "no deform_roi_pool"
    assert simt.operator("deform_conv2d") is get_backend("dcnv2").operator("deform_conv2d")
    assert limits[-2:] == ["simt", "wgmma"]


def test_unknown_backends_are_errors_that_name_the_known_ones():
    with pytest.raises(ValueError, match="torchvision"):
        get_backend("torchvison")


def test_unsupported_problems_have_reasons():
    torchvision, mmcv = peers.Torchvision(), peers.Mmcv()
    half = ConvProblem(dtype="float16")
    assert torchvision.supports(half, "cpu") is None
    assert torchvision.supports(half.but(dtype="bfloat16"), "cpu") == "no bfloat16"
    assert torchvision.supports(half.but(dtypes=(("mask", "float32"),)), "cuda")
    assert torchvision.supports(RoIProblem(), "cpu") == "no deform_roi_pool"
    assert mmcv.supports(ConvProblem(dtype="float16"), "cpu") is None
    assert mmcv.supports(ConvProblem(batch=0), "cpu") == "no empty batch"
    assert mmcv.supports(RoIProblem(mask=False), "cpu") == "no deform_roi_pool on the CPU"
    assert mmcv.supports(RoIProblem(mask=False), "cuda") is None
    assert mmcv.supports(RoIProblem(), "cuda") == "no mask in deform_roi_pool"
    assert mmcv.supports(RoIProblem(kind="psroi"), "cuda") == "no deform_psroi_pool"
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
    got, want = run_isolated(lambda: target.run(problem), target), target.run(problem)
    assert got.keys() == want.keys()
    for name, result in want.items():
        torch.testing.assert_close(got[name], result, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "message"), [("crashing", "exit code -11"), ("raising", "not that")]
)
def test_crash_is_a_failed_claim(name, message):
    target = Target(get_backend(f"{__name__}:{name}"), "cpu")
    with pytest.raises(AssertionError, match=message):
        run_isolated(lambda: target.run(ConvProblem()), target)


@pytest.mark.parametrize("path", ["simt", "mma", "wgmma"])
@QUICK
@given(problem=conv_problems(empty=False))
def test_problems_suit_a_path_of_their_dtype(path, problem):
    target = Target(get_backend(f"emulated-{path}"), "cpu")
    adapted = target.adapt(problem)
    assert (target.supports(adapted) is None) is (problem.dtype in target.backend.dtypes)
    assert adapted.but(in_channels=1, out_channels=1) == problem.but(in_channels=1, out_channels=1)
    if target.supports(problem) is None:
        assert adapted == problem
