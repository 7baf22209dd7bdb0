# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA library, every path of it, on a machine without a GPU."""

import itertools
import os
import subprocess
import sys

import pytest
import torch

from dcnv2.ops import portable
from suites.backends.emulator import operators
from suites.backends.emulator.build import cuda_headers, translate
from suites.backends.registry import get_backend
from suites.sanitizers.cases import all_problems, check

NO_HEADERS = cuda_headers()[1]
CASES = [
    (backend.replace("dcnv2", "emulated") if "-" in backend else "emulated-simt", problem)
    for backend, problem in all_problems()
]


def test_a_launch_becomes_a_call():
    launch = "copy<T, k()>\n    <<<ceil_div(n, 8), 8, 0, stream>>>(a, b);"
    config = "emulator::config(ceil_div(n, 8), 8, 0, stream)"
    assert translate(launch) == f"emulator::bind(copy<T, k()>, {config})(a, b);"


@pytest.mark.parametrize("path", ["simt", "mma", "wgmma"])
def test_every_path_has_problems(path):
    taken = [problem for backend, problem in CASES if backend == f"emulated-{path}"]
    assert taken
    assert not [p for p in taken if get_backend(f"emulated-{path}").supports(p, "cpu")]


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_HEADERS), reason=NO_HEADERS)
@pytest.mark.parametrize(
    ("backend", "problem"), CASES, ids=lambda value: getattr(value, "op", value)
)
def test_emulated_kernels_are_within_tolerance(backend, problem):
    assert not check(backend, problem, "cpu")


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_HEADERS), reason=NO_HEADERS)
@pytest.mark.parametrize("deform_groups", [1, 2])
def test_many_samples_of_one_pixel_are_summed(deform_groups):
    size, channels = 34, 8 * deform_groups  # more samples on a pixel than one thread adds up
    rows, columns = (torch.arange(size).view(shape).float() for shape in ((-1, 1), (1, -1)))
    places = [(9.25 - rows).expand(size, size), (20.5 - columns).expand(size, size)]
    offset = torch.stack(places).repeat(1, deform_groups, 1, 1)
    generator = torch.Generator().manual_seed(0)
    operands = [
        torch.randn(1, channels, size, size, generator=generator).half().requires_grad_(),
        offset.half(),
        torch.randn(8, channels, 1, 1, generator=generator).half(),
    ]
    grad = torch.randn(1, 8, size, size, generator=generator).half()
    (got,) = torch.autograd.grad(operators.deform_conv2d("mma")(*operands), operands[0], grad)
    wide = [t.detach().double().requires_grad_() for t in operands]
    wanted = portable.deform_conv2d(*wide, None, None, (1, 1), (0, 0), (1, 1))
    (wanted,) = torch.autograd.grad(wanted, wide[0], grad.double())
    torch.testing.assert_close(
        got.double(), wanted, rtol=2e-3, atol=2e-3 * wanted.abs().max().item()
    )


# ---- memory


def _peak_bytes(path, needs, operands):
    """The peak memory of a backward beyond its results; operands as the operator takes them."""
    operators.EMULATED.functions  # noqa: B018  loads the library
    operators.EMULATED.limit_conv_path(path)
    backward = torch.ops.dcnv2_emulated.deform_conv2d_backward
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        results = backward(*operands, None, (1, 1), (1, 1), (1, 1), False, needs)
    events = sorted(profile.kineto_results.events(), key=lambda event: event.start_ns())
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return max(itertools.accumulate(changes)) - sum(t.nbytes for t in results)


def _backward_operands(channels, out, size, deform_groups, memory_format):
    shapes = (
        (1, out, size, size),
        (1, channels, size, size),
        (1, 18 * deform_groups, size, size),
        (out, channels, 3, 3),
    )
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(shape, generator=generator).half() for shape in shapes)
    return [t.to(memory_format=memory_format) for t in made]


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_HEADERS), reason=NO_HEADERS)
@pytest.mark.parametrize(
    ("path", "channels", "deform_groups", "most"),
    [
        ("simt", 8, 1, 40),  # bytes a sample: 12 of sorted lists, 24 of weights and oversized cells
        ("mma", 64, 8, 56),  # 12 of sorted lists, 32 of columns
    ],
)
def test_what_only_the_sort_of_samples_needs_is_shared(path, channels, deform_groups, most):
    size = 16
    operands = _backward_operands(channels, 8, size, deform_groups, torch.channels_last)
    peak = _peak_bytes(path, [True, False, False, False, False], operands)
    assert peak <= most * size * size * 9 * deform_groups


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_HEADERS), reason=NO_HEADERS)
def test_the_gradient_of_an_input_takes_the_memory_of_its_copy():
    operands = _backward_operands(512, 8, 8, 1, torch.contiguous_format)
    peak = _peak_bytes("simt", [True, True, False, False, False], operands)
    assert peak <= operands[1].nbytes  # of which the contiguous result is made; no copy beside it


# ---- plans

PASSES = ["forward", "grad_bias", "grad_weight", "grad_offset_mask", "grad_input"]
SCRIPT = """
import torch
from suites.backends.emulator.operators import deform_conv2d
shapes = (2, 128, 3, 3), (2, 2, 3, 3), (64, 128, 1, 1), (64,), (2, 1, 3, 3)
operands = [torch.randn(shape).half().requires_grad_() for shape in shapes]
for path in {paths}:
    deform_conv2d(path)(*operands).sum().backward()
"""
PATHS = ("simt", "mma", "wgmma")


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_HEADERS), reason=NO_HEADERS)
@pytest.mark.parametrize("printed", ["0", "1"])
def test_an_environment_variable_prints_the_plan_of_every_pass(printed):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(paths=PATHS)],
        env={**os.environ, "DCNV2_PRINT_PLANS": printed},
        capture_output=True,
        text=True,
        check=True,
    )
    plans = [line for line in done.stderr.splitlines() if line.startswith("dcnv2: ")]
    wanted = [*itertools.product(PATHS, PASSES)] if printed == "1" else []
    assert [line.split()[1] for line in plans] == [name for _, name in wanted]
    for (path, name), plan in zip(wanted, plans, strict=True):
        on = "simt" if name == "grad_bias" else path
        assert f"of input [2, 128, 3, 3] Half: {on}" in plan
        assert ("columns a tile" in plan) == (on != "simt")
        # Both gradients of the samples read one packed weight.
        shared = name == "grad_input" and on != "simt"
        assert ("packed weight of the pass before" in plan) == shared
