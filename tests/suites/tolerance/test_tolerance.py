# SPDX-License-Identifier: BSD-3-Clause
"""The tolerance catches errors, and raises no false alarm."""

import math

import pytest
import torch
from hypothesis import given, settings

from suites.problems.evaluate import evaluate, results_of
from suites.problems.problem import ConvProblem, RoIProblem
from suites.problems.strategies import conv_problems, pool_problems
from suites.tolerance.expectation import Expectation, kinks
from suites.tolerance.magnitudes import conv_magnitudes, pool_magnitudes
from suites.tolerance.naive_conv import NaiveConv
from suites.tolerance.naive_gather import GatheringConv
from suites.tolerance.tolerance import Tolerance, allowed_error

RESULTS = ("output", "grad_input", "grad_offset", "grad_weight", "grad_bias", "grad_mask")


def _problem(seed, dtype="bfloat16"):
    return ConvProblem(dtype=dtype, offsets="smooth", seed=seed)


def _run(conv, problem, change=lambda operands: operands):
    """A naive convolution as an implementation: float32 inside, one rounding of each result."""
    operands = change({n: t.float() for n, t in problem.rounded().items()})
    options = problem.options().values()
    sizes = conv.sizes(operands["input"], operands["offset"], operands["weight"], *options)
    results = {"output": conv.forward(**operands, sizes=sizes)}
    operands.pop("bias")
    grad = problem.rounded_grad_output().float()
    for name, value in conv.backward(grad, **operands, sizes=sizes).items():
        results[f"grad_{name}"] = value
    return {n: r.to(problem.operand_dtype(n.removeprefix("grad_"))) for n, r in results.items()}


def _error_ratios(problem, got):
    expectation = Expectation(problem)
    allowed, want = expectation.tolerances, expectation.truth
    return {name: allowed[name].error_ratio(result, want[name]) for name, result in got.items()}


@pytest.mark.parametrize("seed", range(20))
def test_bias_of_1_percent_is_caught_in_bfloat16(seed):
    """In every result by itself; each is rounded as a kernel would round it."""
    problem = _problem(seed)
    biased = {
        name: (1.01 * truth).to(problem.operand_dtype(name.removeprefix("grad_")))
        for name, truth in Expectation(problem).truth.items()
    }
    assert min(_error_ratios(problem, biased).values()) > 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_no_false_alarm_on_200_problems(dtype):
    """Correct kernels of several kinds: with a rounded operand or none, in either order."""
    narrow = None if dtype == "float32" else getattr(torch, dtype)
    kinds = (NaiveConv(), NaiveConv(narrow), GatheringConv(narrow), GatheringConv())
    largest = []
    for seed in range(200):
        problem = _problem(seed, dtype).but(batch=1, height=5, width=4, in_channels=6)
        got = _run(kinds[seed % len(kinds)], problem)
        largest.append(max(_error_ratios(problem, got).values()))
    assert max(largest) <= 1


class _HalfCoordinates(NaiveConv):
    def moved(self, base, shift):
        return (base.half() + shift.half()).float()


class _NarrowWeights(NaiveConv):
    """Interpolation weights and masks in the half type too."""

    def located(self, offset, sizes, purpose):
        corners = super().located(offset, sizes, purpose)
        for corner in corners:
            corner.weight = corner.weight.bfloat16().float()
        return corners


def _tf32(tensor):
    """Ten bits behind the point, as a tensor core sees a float32 number."""
    bits = tensor.view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


class _Tf32Conv(NaiveConv):
    def product(self, columns, weight, sizes):
        return super().product(_tf32(columns.contiguous()), _tf32(weight), sizes)


@pytest.mark.parametrize("seed", range(5))
def test_coordinates_in_half_are_caught(seed):
    problem = _problem(seed, "float16").but(width=300, height=3, batch=1, kernel=(2, 3))
    assert _error_ratios(problem, _run(_HalfCoordinates(torch.float16), problem))["output"] > 1


@pytest.mark.parametrize("seed", range(5))
def test_products_in_tf32_are_caught_in_float32(seed):
    problem = _problem(seed, "float32")
    assert _error_ratios(problem, _run(_Tf32Conv(), problem))["output"] > 1


@pytest.mark.parametrize("seed", range(5))
def test_sums_in_half_are_caught(seed):
    """The gradient of a bias over a few hundred places, added up in bfloat16."""
    problem = _problem(seed).but(batch=8, height=15, width=13)
    grad = problem.rounded_grad_output().bfloat16().transpose(0, 1).flatten(1)
    total = torch.zeros_like(grad[:, 0])
    for column in grad.unbind(1):
        total = total + column
    assert _error_ratios(problem, {"grad_bias": total})["grad_bias"] > 1


def test_no_error_has_ratio_0_and_any_error_of_an_exact_zero_is_too_large():
    nothing = Tolerance(0.0, 0.0, None)
    zeros = torch.zeros(3, dtype=torch.float64)
    assert nothing.error_ratio(zeros, zeros) == 0
    assert nothing.error_ratio(zeros + 1e-30, zeros) == math.inf
    assert Tolerance(1.0, 1.0, None).error_ratio(zeros + math.nan, zeros) == math.inf


def test_entries_that_are_not_compared_may_be_wrong():
    tolerance = Tolerance(1e-9, 1e-9, torch.tensor([True, False]))
    zeros = torch.zeros(2, dtype=torch.float64)
    assert tolerance.error_ratio(torch.tensor([0.0, 5.0]), zeros) == 0
    assert tolerance.error_ratio(torch.tensor([5.0, 0.0]), zeros) > 1


def test_one_wrong_entry_of_many_is_caught_by_the_maximum():
    problem = _problem(3).but(batch=8, height=15, width=13)
    got = {name: t.clone() for name, t in Expectation(problem).truth.items()}
    largest = got["output"].abs().argmax()
    got["output"].view(-1)[largest] *= 1.05
    assert _error_ratios(problem, got)["output"] > 1


def test_tolerance_accounts_for_cancellation():
    """The size is that of the terms, not of what is left of them."""
    size = torch.full((4,), 100.0, dtype=torch.float64)
    tolerance = allowed_error(torch.zeros(4), size, 16, torch.float32)
    assert 100 * 2.0**-24 < tolerance.maximum < 100 * 2.0**-18


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(problem=conv_problems(dtype="float64", offsets=("small", "smooth", "kink")))
def test_size_is_no_less_than_the_result_of_a_convolution(problem):
    sizes, truth = conv_magnitudes(problem), Expectation(problem).truth
    for name in results_of(problem):
        assert (sizes[name] >= truth[name].abs() - 1e-9).all(), name


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(problem=pool_problems(dtype="float64", offsets=("none", "small", "large")))
def test_size_is_no_less_than_the_result_of_a_pooling(problem):
    sizes, truth = pool_magnitudes(problem), Expectation(problem).truth
    for name in results_of(problem):
        assert (sizes[name] >= truth[name].abs() - 1e-9).all(), name


def test_kinks_are_left_out_unless_asked_for():
    problem = ConvProblem(offsets="integer")
    assert kinks(problem, problem.rounded()["offset"])[0].all()
    assert not Expectation(problem).tolerances["grad_offset"].compared.any()
    assert Expectation(problem).tolerances_at_kinks["grad_offset"].compared.all()


def test_bins_on_a_jump_are_left_out():
    """Seven bins of a width that is no power of two, their samples on pixels."""
    problem = RoIProblem(
        bins=(7, 7), samples=3, height=9, width=9, scale=1.0, rois=("whole",), offsets="none"
    )
    compared = Expectation(problem).tolerances["output"].compared
    assert not compared.all()
    assert Expectation(RoIProblem(rois=("whole",))).tolerances["output"].compared.all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["roi", "psroi"])
def test_coordinates_of_a_pooling_may_be_rounded_but_no_more(kind):
    """Samples of huge regions, moved by three roundings of their largest coordinate."""
    shares = {3: [], 1000: []}
    for seed in range(40):
        problem = RoIProblem(kind=kind, bins=(2, 2), rois=("huge",), mask=False, seed=seed)
        boxes = problem.rounded()["rois"][0, 1:]
        extent = (boxes[2:] - boxes[:2]) * problem.scale * problem.offset_scale
        step = 2.0**-53 * (boxes.abs().max() * problem.scale + problem.height) / extent
        for roundings, spent in shares.items():
            operands = problem.rounded()
            operands["offset"] = operands["offset"] + roundings * step.view(1, 2, 1, 1)
            grad = problem.rounded_grad_output()
            got = evaluate(problem.reference, problem, operands, grad, ("input",))
            spent += _error_ratios(problem, got).values()
    assert max(shares[3]) <= 1
    assert max(shares[1000]) > 1


@pytest.mark.parametrize("terms", [1, 4, 100, 10**6])
@pytest.mark.parametrize(("dtype", "unit_out"), [(torch.float32, 2**-24), (torch.float16, 2**-11)])
def test_the_tolerance_is_the_formula_of_the_page(terms, dtype, unit_out):
    """Sums may lose as much as the root of their number of terms, so a million costs 1008 units."""
    truth, magnitude = torch.tensor([3.0, -4.0]).double(), torch.tensor([6.0, 8.0]).double()
    naive = [truth + torch.tensor([0.25, 0.0]), truth - torch.tensor([0.0, 0.5])]
    tolerance = allowed_error(truth, magnitude, terms, dtype, naive)
    unit_sum = 2**-24 + 2**-53
    root = {1: 1, 4: 2, 100: 10, 10**6: 1000}[terms]
    sums = (8 + root) * unit_sum
    assert tolerance.euclidean == pytest.approx(2 * 0.5 + unit_out * 5 + sums * 10, rel=1e-12)
    assert tolerance.maximum == pytest.approx(2 * 0.5 + unit_out * 4 + sums * 8, rel=1e-12)


def test_the_tolerance_of_float64_sums_in_float64():
    truth = torch.ones(1, dtype=torch.float64)
    tolerance = allowed_error(truth, truth, 9, torch.float64)
    assert tolerance.maximum == pytest.approx(2**-53 + (8 + 3) * 2 * 2**-53, rel=1e-12)
