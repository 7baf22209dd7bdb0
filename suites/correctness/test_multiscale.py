# SPDX-License-Identifier: BSD-3-Clause
"""RoIAlign from the maps of a pyramid: its definition, and identities that do not depend on it."""

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
from suites.problems.evaluate import call, evaluate
from suites.problems.pyramid import PyramidProblem
from suites.problems.strategies import DTYPES, PRECISE, pyramid_problems
from suites.tolerance.tolerance import identity_tolerance

# More RoIs, bins, pixels and channels than a block of a kernel takes at a time, and more samples in
# a cell of the second map than a thread takes.
MANY = PyramidProblem(
    channels=72, maps=((19, 23), (2, 1)), scales=(0.5, 0.0625), bins=(7, 5), dtype="float32",
    rois=("whole", "huge", "inside", "border") * 70, levels=(0, 1, -1, 1, 0) * 56, seed=5,
)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@claim(lambda dtype: pyramid_problems(dtype), 60)
def test_multiscale_equals_the_reference(target, problem, dtype):
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("samples", [2, 0])
@pytest.mark.parametrize("channels", [72, 67])
def test_many_rois_of_a_pyramid_equal_the_reference(target, samples, channels):
    """Channels in whole vectors and not, with a fixed number of samples and an adaptive one."""
    rois = MANY.rois if samples else tuple(r if r != "huge" else "inside" for r in MANY.rois)
    problem = MANY.but(samples=samples, channels=channels, rois=rois)
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


def _smooth(problem):
    """Few elements, and no sample near a jump."""
    return problem.but(
        batch=1, channels=2, maps=tuple((4, 3) for _ in problem.maps), bins=(2, 1), layouts=(),
        samples=2,
    )  # fmt: skip


@pytest.mark.gradients
@claim(pyramid_problems("float64").map(_smooth), 8)
def test_difference_quotients_give_the_gradient_of_a_map(target, problem):
    operands = problem.operands(target.device)
    function = target.backend.operator(problem.op)
    name = problem.differentiable[problem.seed % len(problem.maps)]

    def result(leaf):
        return call(function, problem, {**operands, name: leaf})

    assert_derivative(target, result, operands[name].detach().requires_grad_(), eps=2.0**-20)


@pytest.mark.library
@claim(pyramid_problems(PRECISE), 40)
def test_each_level_is_a_pooling_of_its_rois(target, problem):
    """The same as `deform_roi_pool` without offsets, level by level."""
    whole, operands = target.run(problem), problem.operands(target.device)
    grad = problem.grad_output(target.device)
    pool = target.backend.operator("deform_roi_pool")
    joined = {"output": torch.zeros_like(whole["output"])}
    for level, name in enumerate(problem.differentiable):
        here = problem.of_level(level).to(target.device)
        pooling = problem.pooling(level)
        given = {
            "input": operands[name],
            "rois": problem.boxes_of_level(level, problem.rounded()["rois"])
            .to(operands["rois"].dtype)
            .to(target.device),
            "offset": None,
            "mask": None,
        }
        part = evaluate(pool, pooling, given, grad[here], ("input",))
        joined["output"][here], joined[f"grad_{name}"] = part["output"], part["grad_input"]
    decided = (~problem.undecided()).to(target.device)
    whole["output"], joined["output"] = whole["output"] * decided, joined["output"] * decided
    assert_within(identity_tolerance(problem, 4), whole, joined)


def _defined(problem):
    """Without the RoIs for which torchvision's roi_align is not defined."""
    rois = tuple("inside" if r in ("inverted", "degenerate") else r for r in problem.rois)
    return problem.but(rois=rois)


@claim(pyramid_problems(PRECISE, layouts=("contiguous",)).map(_defined), 30)
def test_each_level_is_torchvision_s_roi_align(target, problem):
    roi_align = pytest.importorskip("torchvision").ops.roi_align
    operands = problem.operands()
    want = torch.zeros(problem.output_shape(), dtype=operands["rois"].dtype)
    for level, name in enumerate(problem.differentiable):
        here = problem.of_level(level)
        want[here] = roi_align(
            operands[name], operands["rois"][here], problem.bins, problem.scales[level],
            problem.samples or -1, problem.aligned,
        )  # fmt: skip
    decided = ~problem.undecided()
    got = run_with(target, problem, ())["output"].cpu() * decided
    assert_within(identity_tolerance(problem, 4), {"output": got}, {"output": want * decided})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
@claim(lambda value: pyramid_problems(PRECISE).filter(lambda p: -1 in p.levels), 15)
def test_padding_is_zero_whatever_its_box_is(target, problem, value):
    """And leaves all other bins and all gradients as they are, to the bit."""
    operands, want = problem.operands(target.device), run_with(target, problem)
    padding = problem.of_level(-1).to(target.device)
    rois = operands["rois"].clone()
    rois[padding] = value
    levels = torch.where(padding, -7, operands["levels"])
    grad = problem.grad_output(target.device).clone()
    grad[padding] = float("nan")
    got = run_with(target, problem, rois=rois, levels=levels, grad_output=grad)
    assert not got["output"][padding].any()
    assert_same_bits(got, want)


@pytest.mark.gradients
@claim(pyramid_problems(PRECISE, layouts=("contiguous",)).filter(lambda p: len(p.maps) > 1), 8)
def test_frozen_maps_leave_the_gradients_of_the_others(target, problem):
    whole, names = target.run(problem), problem.differentiable
    for wanted in ([names[0]], [names[-1]], names[1:]):
        got = target.run(problem, wanted)
        assert got.keys() == {"output", *(f"grad_{name}" for name in wanted)}
        assert_same_bits(got, {name: whole[name] for name in got})


@claim(pyramid_problems(PRECISE).filter(lambda p: len(p.rois) > 1), 20)
def test_order_of_the_rois_of_a_pyramid_changes_only_rounding(target, problem):
    operands, want = problem.operands(target.device), run_with(target, problem)
    order = torch.randperm(len(problem.rois), generator=problem.generator("order"))
    order = order.to(target.device)
    got = run_with(
        target,
        problem,
        rois=operands["rois"][order],
        levels=operands["levels"][order],
        grad_output=problem.grad_output(target.device)[order],
    )
    assert_within(identity_tolerance(problem), got, {**want, "output": want["output"][order]})


@claim(pyramid_problems(PRECISE).filter(lambda p: p.rois), 15)
def test_levels_may_be_strided(target, problem):
    levels = problem.operands(target.device)["levels"]
    wide = torch.stack([levels, torch.full_like(levels, 99)], 1)
    assert_same_bits(run_with(target, problem, levels=wide[:, 0]), run_with(target, problem))


@pytest.mark.library
def test_boxes_of_a_pyramid_may_be_padded(target):
    """Boxes [N, K, 4] and their counts equal the table of the boxes that count."""
    problem = PyramidProblem(rois=("inside",) * 6, levels=(0, 1, 2, 0, 1, 2))
    require_supported(target, problem)
    operands = problem.operands(target.device)
    boxes = operands["rois"][:, 1:].view(2, 3, 4).clone()
    boxes[1, 1:] = float("nan")
    counts = torch.tensor([3, 1], device=target.device)
    table = operands["rois"].clone()
    table[:, 0] = torch.tensor([0, 0, 0, 1, 1, 1])
    function = target.backend.operator(problem.op)
    want = call(function, problem, {**operands, "rois": table})
    want[4:] = 0
    got = call(function, problem, {**operands, "rois": boxes, "counts": counts})
    assert torch.equal(got, want)


@pytest.mark.library
@pytest.mark.cpu_only
def test_level_beyond_the_maps_is_an_error(target):
    problem = PyramidProblem()
    require_supported(target, problem)
    operands = problem.operands(target.device)
    operands["levels"][1] = 3
    with pytest.raises(ValueError, match="levels must be less than the 3 maps, got 3 in row 1"):
        call(target.backend.operator(problem.op), problem, operands)


@pytest.mark.library
@pytest.mark.cuda_only
@pytest.mark.parametrize("level", [3, 2**31, 2**40])
def test_level_beyond_the_maps_spoils_only_its_bins(target, level):
    problem = PyramidProblem()
    require_supported(target, problem)
    levels = problem.operands("cuda")["levels"].clone()
    want = run_with(target, problem, ())["output"]
    levels[1] = level
    got = run_with(target, problem, levels=levels)
    assert got["output"][1].isnan().all()
    assert torch.equal(got["output"][[0, 2, 3]], want[[0, 2, 3]])
    assert all(grad.isfinite().all() for name, grad in got.items() if name != "output")


@pytest.mark.library
def test_compiled_pyramid_equals_eager_for_any_number_of_rois(target):
    """One graph, without a break, for all numbers of RoIs and sizes of the maps."""
    problem = PyramidProblem(dtype="float32")
    require_supported(target, problem)
    torch.compiler.reset()
    function = target.backend.operator(problem.op)
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def pool(inputs, rois, levels, **options):
        by_size = function([2 * x for x in inputs], rois, **options)
        return function(inputs, rois, levels=levels, **options) + by_size

    compiled = torch.compile(pool, backend=counting, fullgraph=True, dynamic=True)
    # No two sizes are equal, nor equal to the columns of rois: dynamo would unify them.
    for count, maps in (
        (11, ((19, 23), (9, 12))),
        (7, ((29, 31), (14, 16))),
        (13, ((37, 17), (8, 6))),
    ):
        case = problem.but(
            maps=maps, scales=(0.5, 0.25), rois=("inside",) * count, levels=(0, 1) * 6 + (0,) * 9
        )
        case = case.but(levels=case.levels[:count])
        operands, grad = case.operands(target.device), case.grad_output(target.device)
        eager = evaluate(pool, case, operands, grad)
        assert_same_bits(evaluate(compiled, case, operands, grad), eager)
    assert len(graphs) == 1
