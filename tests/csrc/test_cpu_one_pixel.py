# SPDX-License-Identifier: BSD-3-Clause
"""Maps of one output pixel on the CPU: the weight is read as it is stored, without packing."""

import pytest
import torch
from cpu_problems import assert_close, assert_same, conv_problem

from suites.problems.threads import limited_threads

ONE_PIXEL = (3, 2)  # the input of the default kernel, stride, padding and dilation for one output
TWO_PIXELS = (3, 3)  # packed
CASES = {
    "wide": {"channels": 512, "out_channels": 512},
    "few_outputs, packed": {"channels": 203, "out_channels": 127},
    "few_inputs, packed": {"channels": 62, "out_channels": 260, "groups": 2},
    "groups": {"channels": 240, "out_channels": 258, "groups": 2, "deform_groups": 3},
    "crossing_groups": {"channels": 210, "out_channels": 393, "groups": 3, "deform_groups": 7},
    "odd_channels": {"channels": 203, "out_channels": 131},
    "large_kernel": {
        "channels": 37, "out_channels": 129, "kernel": (5, 6), "stride": (5, 1), "padding": (3, 2),
        "dilation": (1, 1),
    },
}  # fmt: skip


def _problem(case, size=ONE_PIXEL):
    return conv_problem(size=size, **CASES[case])


def _weight_channels_last(t):
    return t.contiguous(memory_format=torch.channels_last)


def _weight_in_reverse(t):
    return t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)


def _weight_of_a_wider_one(t):
    return torch.cat([t, t.new_full(t.shape, float("nan"))], dim=1)[:, : t.shape[1]]


@pytest.mark.parametrize("size", [ONE_PIXEL, TWO_PIXELS], ids=["one_pixel", "two_pixels"])
@pytest.mark.parametrize("case", CASES)
def test_groups_and_kernels_equal_the_portable_path(case, size):
    problem = _problem(case, size)
    assert size == TWO_PIXELS or problem.grad_output[0, 0].numel() == 1
    assert_close(problem.results(), problem.expected(), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["wide", "odd_channels"])
def test_sums_of_other_dtypes_are_float32(case, dtype):
    problem = _problem(case).to(dtype)
    tolerance = 2e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert_close(problem.results(), problem.expected(), tolerance)


@pytest.mark.parametrize("case", CASES)
def test_threads_change_nothing(case):
    problem = _problem(case).to(torch.float32)
    with limited_threads(1):
        alone = problem.results()
    for threads in (2, 3, 5):
        with limited_threads(threads):
            assert_same(problem.results(), alone)


@pytest.mark.parametrize(
    "layout", [_weight_channels_last, _weight_in_reverse, _weight_of_a_wider_one]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["groups", "odd_channels", "large_kernel"])
def test_layout_of_the_weight_changes_nothing(case, dtype, layout):
    problem = _problem(case).to(dtype)
    moved = problem.replace(weight=layout(problem.tensors["weight"]))
    assert_same(moved.results(), problem.results())


def test_batch_changes_no_image():
    batch = 132  # more than any pass processes at once
    problem = conv_problem(size=ONE_PIXEL, batch=batch, channels=420, out_channels=131)
    assert_close(problem.results(), problem.expected(), 1e-12)
    problem = problem.to(torch.float32)
    together = problem.results()
    for n in (0, batch // 2, batch - 1):
        part = {
            name: t[n : n + 1] if name in ("input", "offset", "mask") else t
            for name, t in problem.tensors.items()
        }
        single = problem.replace(**part)
        single.grad_output = problem.grad_output[n : n + 1]
        alone = single.results()
        for name in ("output", "input", "offset", "mask"):
            assert torch.equal(alone[name], together[name][n : n + 1]), name
