# SPDX-License-Identifier: BSD-3-Clause
"""What only a direct call can get wrong: gradients, lengths of lists, sizes beyond memory.

Every other operand is in tests/ops/test_checks.py, for both layers of checks.
"""

import pytest
import torch
from cpu_problems import conv_problem, psroi_problem, roi_problem

D = torch.float64


GRADS = [torch.zeros(2, 4, 4, 5, dtype=D), torch.zeros(2, 4, 4, dtype=D), torch.zeros(2, 4, 4, 6)]


@pytest.mark.parametrize("grad", GRADS, ids=lambda t: f"{list(t.shape)}-{t.dtype}")
def test_conv_names_a_wrong_gradient(grad):
    problem = conv_problem()
    problem.grad_output = grad
    with pytest.raises(ValueError, match="grad_output"):
        problem.backward()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_conv_names_an_option_of_three_numbers(place):
    problem = conv_problem()
    problem.options = tuple([1, 2, 3] if i == place else o for i, o in enumerate(problem.options))
    with pytest.raises(ValueError, match=("stride", "padding", "dilation")[place]):
        problem.forward()


@pytest.mark.parametrize("needs", [[], [True] * 4])
def test_needs_of_a_wrong_length(needs):
    for problem in (conv_problem(), roi_problem(), psroi_problem()):
        with pytest.raises(ValueError, match="needs"):
            problem.backward(needs)


def test_sizes_beyond_memory_raise():
    # Strides of 0 make operands of any size, which pass every check.
    side = 2**31 - 1
    problem = roi_problem(rois=1, batch=1, channels=1, offset=False, mask=False)
    problem.options = ([side, side], *problem.options[1:])
    problem.grad_output = torch.zeros((), dtype=D).expand(1, 1, side, side)
    with pytest.raises((RuntimeError, MemoryError)):
        problem.forward()
    with pytest.raises((RuntimeError, MemoryError)):
        problem.backward()


def test_the_library_says_what_it_was_built_from(library):
    assert library.info["library"] == "cpu"
    assert set(library.info) == {"library", "compiler", "torch", "csrc", "instructions"}
    assert library.info["instructions"] in ("avx512", "avx2", "baseline")
