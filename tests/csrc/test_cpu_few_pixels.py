# SPDX-License-Identifier: BSD-3-Clause
"""Maps of few output pixels on the CPU: the weight is read as it is stored, without packing."""

import pytest
import torch
from cpu_problems import assert_close, assert_same, conv_problem

from suites.problems.threads import limited_threads

# Input sizes and the output that the default kernel, stride, padding and dilation make of them.
SIZES = {
    "1x1": (3, 2),
    "2x2": (5, 3),
    "1x7": (3, 8),
    "3x3": (7, 4),
    "1x10, packed": (3, 11),
}
CASES = {
    "wide": {"channels": 512, "out_channels": 512, "batch": 1},
    "depthwise": {"channels": 512, "out_channels": 512, "groups": 512, "batch": 1},
    "groups": {"channels": 240, "out_channels": 258, "groups": 2, "deform_groups": 3},
    "crossing_groups": {"channels": 210, "out_channels": 51, "groups": 3, "deform_groups": 7},
    "odd_channels": {"channels": 203, "out_channels": 131},
    "large_kernel": {
        "channels": 37, "out_channels": 129, "kernel": (5, 6), "padding": (3, 2),
        "dilation": (1, 1),
    },
}  # fmt: skip


def _weight_channels_last(t):
    return t.contiguous(memory_format=torch.channels_last)


def _weight_in_reverse(t):
    return t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)


def _weight_of_a_wider_one(t):
    return torch.cat([t, t.new_full(t.shape, float("nan"))], dim=1)[:, : t.shape[1]]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_512_channels_equal_the_portable_path(size):
    problem = conv_problem(size=size, **CASES["wide"])
    assert_close(problem.results(), problem.expected(), 1e-12)


@pytest.mark.parametrize("case", CASES)
def test_groups_and_kernels_equal_the_portable_path(case):
    problem = conv_problem(size=SIZES["2x2"], **CASES[case])
    assert_close(problem.results(), problem.expected(), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["wide", "odd_channels"])
def test_sums_of_other_dtypes_are_float32(case, dtype):
    problem = conv_problem(size=SIZES["2x2"], **CASES[case]).to(dtype)
    tolerance = 2e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert_close(problem.results(), problem.expected(), tolerance)


@pytest.mark.parametrize("case", CASES)
def test_threads_change_nothing(case):
    problem = conv_problem(size=SIZES["1x1"], **CASES[case]).to(torch.float32)
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
    problem = conv_problem(size=SIZES["2x2"], **CASES[case]).to(dtype)
    moved = problem.replace(weight=layout(problem.tensors["weight"]))
    assert_same(moved.results(), problem.results())


# More images than any pass processes at once.
@pytest.mark.parametrize("size", ["1x1", "3x3"])
def test_batch_changes_no_image(size):
    pixels = 1 if size == "1x1" else 9
    batch = 130 // pixels + 2
    problem = conv_problem(size=SIZES[size], batch=batch, channels=420, out_channels=131)
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
