# SPDX-License-Identifier: BSD-3-Clause
"""Indices that need more than 32 bits, in sparse tensors that take almost no memory."""

import pytest
import torch

from suites.claims.assertions import assert_within
from suites.claims.claim import require_supported
from suites.problems import large_tensors
from suites.problems.evaluate import call, evaluate
from suites.problems.problem import ConvProblem, RoIProblem
from suites.tolerance.tolerance import identity_tolerance

FLOATS = {"dtype": "float32", "layouts": ()}
ANY = [
    ConvProblem(offsets="small", **FLOATS),
    RoIProblem(**FLOATS),
    RoIProblem(kind="psroi", bins=(2, 2), **FLOATS),
]


@pytest.mark.tensors
@pytest.mark.parametrize("last", large_tensors.EDGES, ids=["2^31-1", "2^31", "2^31+1", "beyond"])
@pytest.mark.parametrize("problem", ANY, ids=lambda p: p.op)
def test_operand_may_spread_over_2_31_elements(target, problem, last):
    """Each operand and the gradient in turn has one long stride, along every axis in turn."""
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    function, allowed = target.backend.operator(problem.op), identity_tolerance(problem)
    given = {**problem.operands(target.device), "grad_output": problem.grad_output(target.device)}
    want = _results(function, problem, given)
    with large_tensors.zeros(torch.float32, target.device) as memory:
        for name, tensor in ((n, t) for n, t in given.items() if t is not None):
            for axis in (i for i, size in enumerate(tensor.shape) if size > 1):
                moved = large_tensors.spread(tensor, axis, last, memory)
                got = _results(function, problem, {**given, name: moved})
                assert_within(allowed, got, want)


def _results(function, problem, given):
    operands = {name: tensor for name, tensor in given.items() if name != "grad_output"}
    return evaluate(function, problem, operands, given["grad_output"])


@pytest.mark.in_place
@pytest.mark.parametrize("channels", [1, 4])
def test_conv_reads_pixels_beyond_2_31_elements(target, channels):
    """Compares rows at both ends of a tall image with the same rows in a small image."""
    tall, few = large_tensors.conv_problems("float32", channels)
    require_supported(target, few)
    operands, grad = few.operands(target.device), few.grad_output(target.device)
    operands["offset"] = (8 * operands["offset"]).round() / 8  # exact when added to 2^20
    function, wanted = target.backend.operator(few.op), ("offset", "weight", "bias", "mask")
    want = evaluate(function, few, operands, grad, wanted)
    with large_tensors.zeros(torch.float32, target.device) as memory:
        image = large_tensors.tall_image(operands["input"], memory)
        got = evaluate(function, tall, {**operands, "input": image}, grad, wanted)
    assert_within(identity_tolerance(few), got, want)


@pytest.mark.in_place
@pytest.mark.parametrize("kind", ["roi", "psroi"])
def test_pool_reads_pixels_beyond_2_31_elements(target, kind):
    problem = large_tensors.pool_problem(kind)
    require_supported(target, problem)
    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    operands["rois"] = large_tensors.corners(problem.generator("rois")).to(grad)
    function, wanted = target.backend.operator(problem.op), ("offset", "mask")
    want = evaluate(function, problem, operands, grad, wanted)
    allowed = identity_tolerance(problem, rois=operands["rois"])
    with large_tensors.zeros(grad.dtype, target.device) as memory:
        image = large_tensors.tall_image(operands["input"], memory)
        operands["rois"][:, 2::2] += image.shape[2] - problem.height
        got = evaluate(function, problem, {**operands, "input": image}, grad, wanted)
    assert_within(allowed, got, want)


@pytest.mark.cuda_only
def test_bins_beyond_a_grid_of_blocks_equal_those_within(target):
    """More bins than threads in the largest grid of 2^20 blocks."""
    if torch.cuda.mem_get_info()[1] < 8 * 2**30:
        pytest.skip("needs a GPU with 8 GiB")
    problem = RoIProblem(
        channels=7, bins=(64, 64), samples=1, offsets="none", mask=False, **FLOATS,
        rois=("inside", "border") * 2450,
    )  # fmt: skip
    require_supported(target, problem)
    operands, function = problem.operands(target.device), target.backend.operator(problem.op)

    def pooled(chosen):
        return call(function, problem, {**operands, "rois": operands["rois"][chosen]})

    whole, cut = pooled(slice(None)), len(problem.rois) // 2
    for part in (slice(None, cut), slice(cut, None)):
        torch.testing.assert_close(whole[part], pooled(part))
