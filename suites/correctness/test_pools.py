# SPDX-License-Identifier: BSD-3-Clause
"""Both deformable RoI poolings: their definition, and identities that do not depend on it."""

import itertools

import pytest
import torch

from suites.claims.assertions import (
    assert_derivative,
    assert_equals_reference,
    assert_same_bits,
    assert_within,
    run_with,
)
from suites.claims.claim import claim, require_supported
from suites.problems.evaluate import call, zeros_like
from suites.problems.problem import RoIProblem
from suites.problems.strategies import DTYPES, PRECISE, pool_problems
from suites.tolerance.tolerance import identity_tolerance

FINITE = ("none", "zero", "small", "large", "far")
BOTH = pytest.mark.parametrize("kind", ["roi", "psroi"])


def _precise(kind, **more):
    return pool_problems(kind=kind, dtype=PRECISE, offsets=FINITE, **more)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@claim(lambda kind, dtype: pool_problems(kind, dtype, offsets=FINITE), 60)
def test_pool_equals_the_reference(target, problem, kind, dtype):
    assert_equals_reference(target, problem, target.run(problem))


@BOTH
@claim(lambda kind: pool_problems(kind, offsets=("nan", "infinite")), 60)
def test_non_finite_offsets_affect_only_their_bins(target, problem, kind):
    assert_equals_reference(target, problem, target.run(problem))


def _smooth(problem):
    """Few elements, and offsets off every grid, so that no sample is near a jump."""
    return problem.but(
        batch=1, height=5, width=4, bins=(2, 2), rois=problem.rois[:2] or ("inside",),
        channels=problem.classes, group_size=min(problem.group_size, 2), offsets="small",
        offset_scale=0.0703, scale=0.5, mask=True, layouts=(), samples=min(problem.samples, 2) or 2,
    )  # fmt: skip


@pytest.mark.gradients
@BOTH
@pytest.mark.parametrize("operand", RoIProblem.differentiable)
@claim(lambda kind, operand: pool_problems(kind, "float64").map(_smooth), 4)
def test_difference_quotients_give_the_gradient_of_a_pool(target, problem, kind, operand):
    operands = problem.operands(target.device)
    function, decided = target.backend.operator(problem.op), _decided(problem, target.device)

    def result(leaf):
        return call(function, problem, {**operands, operand: leaf}) * decided

    leaf = operands[operand].detach().requires_grad_()
    assert_derivative(target, result, leaf, eps=2.0**-20)


def _decided(problem, device):
    from suites.problems.rois import undecided_bins

    return (~undecided_bins(problem)).to(device)


@BOTH
@claim(lambda kind: _with(_precise(kind), offsets="zero"), 25)
def test_zero_offset_is_no_offset(target, problem, kind):
    zero = run_with(target, problem, ("input", "mask"))
    none = run_with(target, problem, ("input", "mask"), offset=None)
    assert_within(identity_tolerance(problem), zero, none)


@BOTH
@claim(lambda kind: _precise(kind).filter(lambda p: p.mask), 25)
def test_mask_multiplies_the_bins(target, problem, kind):
    mask = problem.operands(target.device)["mask"]
    masked, plain = run_with(target, problem, ()), run_with(target, problem, (), mask=None)
    assert_within(identity_tolerance(problem), masked, {"output": plain["output"] * mask})


@BOTH
@claim(lambda kind: _precise(kind).filter(lambda p: len(p.rois) > 1), 25)
def test_rois_are_independent(target, problem, kind):
    """Reordered, repeated or separate RoIs have the same bins; the input's gradients add up."""
    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    each = {n: t for n, t in operands.items() if n != "input" and t is not None}
    count = len(problem.rois)
    order = torch.randperm(count, generator=problem.generator("order")).to(target.device)
    twice = torch.cat((order, order))
    want = run_with(target, problem)
    got = run_with(
        target, problem, grad_output=grad[twice], **{n: t[twice] for n, t in each.items()}
    )
    assert_within(identity_tolerance(problem, 4), got, {"grad_input": 2 * want["grad_input"]})
    for name in ("output", *(f"grad_{n}" for n in each if n != "rois")):
        for half in (got[name][:count], got[name][count:]):
            assert_within(identity_tolerance(problem), {name: half}, {name: want[name][order]})
    for index in range(count):
        one = slice(index, index + 1)
        alone = run_with(
            target, problem, (), grad_output=grad[one], **{n: t[one] for n, t in each.items()}
        )
        want_one = {"output": want["output"][one]}
        assert_within(identity_tolerance(problem), alone, want_one)


@BOTH
@claim(lambda kind: _precise(kind), 25)
def test_pool_is_linear_in_its_input(target, problem, kind):
    u, v = (
        p.operands(target.device)["input"] for p in (problem, problem.but(seed=problem.seed + 1))
    )
    # Other tensors of the second problem differ too; only its input is used.
    names = ("offset", "mask")
    first, second, mixed = (
        run_with(target, problem, names, input=value) for value in (u, v, 0.5 * u - 2 * v)
    )
    combined = {name: 0.5 * first[name] - 2 * second[name] for name in first}
    assert_within(identity_tolerance(problem, input=0.5 * u.abs() + 2 * v.abs()), mixed, combined)


def _with(strategy, **changes):
    """Problems with fields that a claim requires, so that a backend can decline them."""
    return strategy.map(lambda problem: problem.but(**changes))


@pytest.mark.gradients
@BOTH
@pytest.mark.parametrize("mask", [True, False], ids=["masked", "unmasked"])
@claim(
    lambda kind, mask: _with(_precise(kind, layouts=("contiguous",)), mask=mask, offsets="small"), 4
)
def test_frozen_operands_leave_the_other_gradients_of_a_pool(target, problem, kind, mask):
    whole, allowed = target.run(problem), identity_tolerance(problem)
    there = [name for name in problem.differentiable if mask or name != "mask"]
    for count in range(1, len(there)):
        for wanted in itertools.combinations(there, count):
            got = target.run(problem, wanted)
            assert got.keys() == {"output", *(f"grad_{name}" for name in wanted)}
            assert_within(allowed, got, whole)


def _aligned(problem):
    """Without the RoIs for which torchvision's roi_align is not defined."""
    rois = tuple(r for r in problem.rois if r not in ("inverted", "degenerate"))
    return problem.but(rois=rois or ("inside",), offsets="none", mask=False)


@claim(_precise("roi", layouts=("contiguous",)).filter(lambda p: p.rois).map(_aligned), 30)
def test_without_offset_the_centred_pool_is_roi_align(target, problem):
    roi_align = pytest.importorskip("torchvision").ops.roi_align
    operands = {n: t.cpu() for n, t in problem.operands().items() if t is not None}
    out = roi_align(
        operands["input"], operands["rois"], problem.bins, problem.scale, problem.samples or -1,
        aligned=True,
    )  # fmt: skip
    decided = _decided(problem, "cpu")
    got = run_with(target, problem, ())["output"].cpu() * decided
    assert_within(identity_tolerance(problem), {"output": got}, {"output": out * decided})


@claim(_with(_precise("roi", layouts=("contiguous",)), offsets="zero", offset_scale=0.25), 25)
def test_a_common_offset_moves_the_roi(target, problem):
    """An offset of 0.5 moves it by gamma times half its size; powers of two keep boxes exact."""
    operands = problem.operands(target.device)
    boxes = operands["rois"].clone()
    size = boxes[:, 3:] - boxes[:, 1:3]
    boxes[:, 1:] += 0.25 * 0.5 * torch.cat((size, size), 1)
    offset = torch.full_like(operands["offset"], 0.5)
    decided = _decided(problem, target.device)
    moved = run_with(target, problem, (), rois=boxes, offset=None)["output"] * decided
    shifted = run_with(target, problem, (), offset=offset)["output"] * decided
    smooth = _same_side(problem, boxes, offset).to(target.device)
    allowed = identity_tolerance(problem, 4, rois=boxes, offset=None)
    assert_within(allowed, {"output": moved * smooth}, {"output": shifted * smooth})


def _same_side(problem, boxes, offset):
    """Bins that are decided both with moved boxes and with moved bins."""
    from suites.problems.rois import undecided_among

    rois = problem.rounded()["rois"]
    offset = offset.cpu().double()
    moved = undecided_among(problem, boxes.cpu().double(), None)
    return ~(moved | undecided_among(problem, rois, offset))


@claim(_precise("psroi").filter(lambda p: p.classes > 1 and p.offsets != "none"), 25)
def test_classes_are_separate_poolings(target, problem):
    operands, whole = problem.operands(target.device), run_with(target, problem)
    grad, each = problem.grad_output(target.device), problem.channels // problem.classes
    maps = operands["input"].shape[1] // problem.classes
    joined = zeros_like(whole)
    for index in range(problem.classes):
        outs = slice(index * each, (index + 1) * each)
        channels, pair = slice(index * maps, (index + 1) * maps), slice(2 * index, 2 * index + 2)
        part = {"input": operands["input"][:, channels], "offset": operands["offset"][:, pair]}
        got = run_with(target, problem, grad_output=grad[:, outs], **part)
        joined["output"][:, outs] = got["output"]
        joined["grad_input"][:, channels] = got["grad_input"]
        joined["grad_offset"][:, pair] = got["grad_offset"]
        if "grad_mask" in got:
            joined["grad_mask"] += got["grad_mask"]
    assert_within(identity_tolerance(problem), whole, joined)


@claim(_precise("psroi").filter(lambda p: p.group_size > 1), 25)
def test_groups_read_channels_by_place(target, problem):
    """Each bin of a grouped pool equals that bin of an ungrouped pool of its own channels."""
    operands, whole = problem.operands(target.device), run_with(target, problem, ())["output"]
    maps, bins = problem.group_size, problem.bins[0]
    joined = torch.zeros_like(whole)
    single = problem.but(group_size=1)
    for row, col in itertools.product(range(maps), repeat=2):
        part = operands["input"].unflatten(1, (-1, maps, maps))[:, :, row, col]
        got = run_with(target, single, (), input=part)["output"]
        place = torch.arange(bins, device=got.device) * maps // bins
        here = (place[:, None] == row) & (place[None] == col)
        joined = torch.where(here, got, joined)
    assert_within(identity_tolerance(problem), {"output": whole}, {"output": joined})


@pytest.mark.parametrize("corner", [-3.5, -2.5, -0.5, 0.5, 1.5])
def test_corners_at_halves_are_rounded_away_from_zero(target, corner):
    """As C's round(): a RoI from -2.5 starts where one from -3 does."""
    problem = RoIProblem(
        kind="psroi", bins=(3, 3), scale=1.0, rois=("whole",), mask=False, offsets="none"
    )
    require_supported(target, problem)
    away = corner + (0.5 if corner > 0 else -0.5)
    got, want = (
        run_with(
            target, problem, rois=torch.tensor([[1.0, x, x, 5.0, 6.0]]).double().to(target.device)
        )
        for x in (corner, away)
    )
    assert_same_bits(got, want)


@BOTH
def test_no_rois_give_no_bins_and_zero_gradients(target, kind):
    problem = RoIProblem(kind=kind, bins=(2, 2), rois=())
    require_supported(target, problem)
    got = target.run(problem)
    assert got["output"].shape == (0, 3, 2, 2)
    assert got["grad_offset"].shape == (0, 2, 2, 2)
    assert not got["grad_input"].any()


@BOTH
@pytest.mark.library
def test_boxes_may_come_image_by_image(target, kind):
    problem = RoIProblem(kind=kind, bins=(2, 2), rois=("inside", "border", "whole"))
    require_supported(target, problem)
    operands = problem.operands(target.device)
    rois = operands["rois"][operands["rois"][:, 0].argsort()]
    boxes = [rois[rois[:, 0] == image, 1:] for image in range(problem.batch)]
    function = target.backend.operator(problem.op)
    table = call(function, problem, {**operands, "rois": rois})
    assert torch.equal(call(function, problem, {**operands, "rois": boxes}), table)


@BOTH
@pytest.mark.library
@pytest.mark.cpu_only
@pytest.mark.parametrize("index", [-1.0, 2.0, float("nan")])
def test_batch_index_out_of_range_is_an_error(target, kind, index):
    problem = RoIProblem(kind=kind, bins=(2, 2))
    require_supported(target, problem)
    operands = problem.operands(target.device)
    operands["rois"][1, 0] = index
    with pytest.raises(ValueError, match="rois"):
        call(target.backend.operator(problem.op), problem, operands)


@pytest.mark.library
@pytest.mark.cuda_only
@BOTH
@pytest.mark.parametrize("index", [-1.0, 2.0, 1e9, float("nan")])
def test_batch_index_out_of_range_spoils_only_its_bins(target, kind, index):
    """On a GPU the values are not checked before the kernel runs, as that would synchronise."""
    problem = RoIProblem(kind=kind, bins=(2, 2))
    require_supported(target, problem)
    rois = problem.operands("cuda")["rois"].clone()
    want = run_with(target, problem, ())["output"]
    rois[1, 0] = index
    got = run_with(target, problem, ("input",), rois=rois)
    assert got["output"][1].isnan().all()
    assert torch.equal(got["output"][[0, 2]], want[[0, 2]])
    assert got["grad_input"].isfinite().all()
