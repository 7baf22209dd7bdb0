# SPDX-License-Identifier: BSD-3-Clause
"""Called past the Python checks, the operators raise and name the operand that is wrong."""

import pytest
import torch
from cpu_problems import conv_problem, psroi_problem, roi_problem

D = torch.float64


def _call(problem, backward):
    return problem.backward() if backward else problem.forward()


def _with(problem, **changes):
    problem.tensors.update(changes)
    return problem


CONV = [
    ("input", torch.zeros(2, 6, 9, dtype=D)),
    ("input", torch.zeros(2, 6, 9, 7, dtype=torch.int64)),
    ("input", torch.zeros(2, 5, 9, 7, dtype=D)),
    ("input", torch.zeros(2, 0, 9, 7, dtype=D)),
    ("input", torch.zeros(2, 6, 1, 1, dtype=D)),
    ("offset", torch.zeros(2, 12, 4, dtype=D)),
    ("offset", torch.zeros(2, 12, 4, 5, dtype=D)),
    ("offset", torch.zeros(2, 11, 4, 6, dtype=D)),
    ("offset", torch.zeros(2, 0, 4, 6, dtype=D)),
    ("offset", torch.zeros(2, 48, 4, 6, dtype=D)),
    ("offset", torch.zeros(2, 12, 4, 6, dtype=torch.float32)),
    ("weight", torch.zeros(4, 6, 3, dtype=D)),
    ("weight", torch.zeros(4, 4, 3, 2, dtype=D)),
    ("weight", torch.zeros(4, 0, 3, 2, dtype=D)),
    ("weight", torch.zeros(0, 6, 3, 2, dtype=D)),
    ("weight", torch.zeros(4, 6, 3, 2, dtype=torch.float32)),
    ("mask", torch.zeros(2, 5, 4, 6, dtype=D)),
    ("mask", torch.zeros(2, 6, 4, 6, dtype=torch.bfloat16)),
]


def _ids(cases):
    return [f"{name}-{list(t.shape)}-{t.dtype}".replace("torch.", "") for name, t in cases]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("name", "tensor"), CONV, ids=_ids(CONV))
def test_conv_names_the_wrong_operand(name, tensor, backward):
    problem = _with(conv_problem(), **{name: tensor})
    with pytest.raises(RuntimeError, match=name):
        _call(problem, backward)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_conv_of_unequal_batches(backward):
    problem = _with(conv_problem(), input=torch.zeros(3, 6, 9, 7, dtype=D))
    with pytest.raises(RuntimeError, match="offset must have shape"):
        _call(problem, backward)


@pytest.mark.parametrize("bias", [torch.zeros(5, dtype=D), torch.zeros(4, 1, dtype=D)])
def test_conv_names_a_wrong_bias(bias):
    with pytest.raises(RuntimeError, match="bias"):
        _with(conv_problem(), bias=bias).forward()


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("pair", [[0, 1], [-1, 1], [2**40, 1], [2**62, 2**62], [1, 2, 3]])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_conv_names_wrong_options(place, pair, backward):
    if place == 1 and pair == [0, 1]:
        pair = [-3, 1]
    problem = conv_problem()
    problem.options = tuple(pair if i == place else o for i, o in enumerate(problem.options))
    with pytest.raises(RuntimeError, match=("stride", "padding", "dilation")[place]):
        _call(problem, backward)


GRADS = [torch.zeros(2, 4, 4, 5, dtype=D), torch.zeros(2, 4, 4, dtype=D), torch.zeros(2, 4, 4, 6)]


@pytest.mark.parametrize("grad", GRADS, ids=lambda t: f"{list(t.shape)}-{t.dtype}")
def test_conv_names_a_wrong_gradient(grad):
    problem = conv_problem()
    problem.grad_output = grad
    with pytest.raises(RuntimeError, match="grad_output"):
        problem.backward()


ROI = [
    ("input", torch.zeros(2, 5, 9, dtype=D)),
    ("input", torch.zeros(2, 5, 0, 12, dtype=D)),
    ("rois", torch.zeros(7, 4, dtype=D)),
    ("rois", torch.zeros(7, dtype=D)),
    ("rois", torch.zeros(7, 5)),
    ("mask", torch.zeros(7, 2, 3, 4, dtype=D)),
    ("offset", torch.zeros(7, 2, 4, 3, dtype=D)),
    ("offset", torch.zeros(7, 4, 3, 4, dtype=D)),
]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("name", "tensor"), ROI, ids=_ids(ROI))
def test_roi_pool_names_the_wrong_operand(name, tensor, backward):
    problem = _with(roi_problem(), **{name: tensor})
    with pytest.raises(RuntimeError, match=name):
        _call(problem, backward)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_roi_pool_of_no_image(backward):
    problem = _with(roi_problem(), input=torch.zeros(0, 5, 9, 12, dtype=D))
    with pytest.raises(RuntimeError, match="rois must be empty"):
        _call(problem, backward)


PSROI = [
    ("input", torch.zeros(2, 22, 9, 12, dtype=D)),
    ("offset", torch.zeros(7, 5, 3, 3, dtype=D)),
    ("offset", torch.zeros(7, 8, 3, 3, dtype=D)),
    ("offset", torch.zeros(7, 6, 4, 3, dtype=D)),
    ("mask", torch.zeros(7, 1, 3, 3, dtype=D)),
]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("name", "tensor"), PSROI, ids=_ids(PSROI))
def test_psroi_pool_names_the_wrong_operand(name, tensor, backward):
    problem = _with(psroi_problem(), **{name: tensor})
    with pytest.raises(RuntimeError, match=name):
        _call(problem, backward)


@pytest.mark.parametrize(
    ("place", "value", "name"),
    [(0, [0, 3], "output_size"), (1, float("nan"), "spatial_scale"), (2, -1, "sampling_ratio"),
     (2, 2**40, "sampling_ratio"), (3, float("inf"), "gamma")],
)  # fmt: skip
def test_roi_pool_names_wrong_options(place, value, name):
    problem = roi_problem()
    problem.options = tuple(value if i == place else o for i, o in enumerate(problem.options))
    with pytest.raises(RuntimeError, match=name):
        problem.forward()


@pytest.mark.parametrize(
    ("place", "value", "name"),
    [(0, 0, "output_size"), (2, 0, "group_size"), (2, 2**40, "group_size"), (3, 0, "part_size"),
     (4, 0, "sample_per_part"), (5, float("nan"), "trans_std")],
)  # fmt: skip
def test_psroi_pool_names_wrong_options(place, value, name):
    problem = psroi_problem()
    problem.options = tuple(value if i == place else o for i, o in enumerate(problem.options))
    with pytest.raises(RuntimeError, match=name):
        problem.forward()


@pytest.mark.parametrize("needs", [[], [True] * 4])
def test_needs_of_a_wrong_length(needs):
    for problem in (conv_problem(), roi_problem(), psroi_problem()):
        with pytest.raises(RuntimeError, match="needs"):
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
