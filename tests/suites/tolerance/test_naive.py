# SPDX-License-Identifier: BSD-3-Clause
"""The naive convolution is a correct one: it equals the reference in float64."""

import pytest
import torch
from hypothesis import given, settings

from suites.problems.strategies import IN_RANGE, conv_problems
from suites.tolerance.expectation import Expectation
from suites.tolerance.naive_conv import NaiveConv
from suites.tolerance.naive_gather import GatheringConv


@pytest.mark.slow
@pytest.mark.parametrize("cls", [NaiveConv, GatheringConv])
@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(problem=conv_problems(dtype="float64", offsets=(*IN_RANGE, "infinite", "out_of_range")))
def test_naive_equals_the_reference(cls, problem):
    conv, operands = cls(), problem.rounded()
    options = problem.options().values()
    sizes = conv.sizes(operands["input"], operands["offset"], operands["weight"], *options)
    got = {"output": conv.forward(**operands, sizes=sizes)}
    operands.pop("bias")
    grads = conv.backward(problem.rounded_grad_output(), **operands, sizes=sizes)
    got |= {f"grad_{name}": grad for name, grad in grads.items()}
    for name, want in Expectation(problem).truth.items():
        torch.testing.assert_close(got[name], want, rtol=1e-10, atol=1e-10)
