# SPDX-License-Identifier: BSD-3-Clause
"""RoI poolings under every use that autograd and callers allow: steps, layouts, order, place."""

import pytest
import torch
import torch.nn.functional as F

from suites.claims.assertions import (
    assert_layout_changes_nothing,
    assert_same_bits,
    assert_within,
    run_with,
)
from suites.claims.claim import claim, require_supported
from suites.problems.evaluate import arriving, call, evaluate
from suites.problems.layouts import layouts_of
from suites.problems.problem import RoIProblem
from suites.problems.rois import sample_points, undecided_among, undecided_bins
from suites.problems.strategies import PRECISE, having, pool_problems
from suites.tolerance.tolerance import identity_tolerance

FINITE = ("none", "zero", "small", "large", "far")
BOTH = pytest.mark.parametrize("kind", ["roi", "psroi"])


def _precise(kind, **more):
    return pool_problems(kind=kind, dtype=PRECISE, offsets=FINITE, **more)


@pytest.mark.gradients
@BOTH
@claim(lambda kind: _precise(kind).filter(lambda p: p.batch > 1), 20)
def test_permuting_the_images_moves_the_input_s_gradient(target, problem, kind):
    operands, want = problem.operands(target.device), run_with(target, problem)
    order = torch.randperm(problem.batch, generator=problem.generator("order")).to(target.device)
    rois = operands["rois"].clone()
    rois[:, 0] = order.argsort()[rois[:, 0].long()].to(rois.dtype)
    got = run_with(target, problem, input=operands["input"][order], rois=rois)
    assert_within(
        identity_tolerance(problem), got, {**want, "grad_input": want["grad_input"][order]}
    )


@BOTH
@claim(lambda kind: _precise(kind, layouts=("contiguous",)).filter(lambda p: p.rois), 25)
def test_translation_of_map_and_rois_changes_nothing(target, problem, kind):
    """Compares bins whose samples are all between the pixels of the smaller map.

    Left out are RoIs with corners for which psroi's rounding of halves changes direction.
    """
    operands = problem.operands(target.device)
    down, right = 1 + problem.seed % 2, 1 + problem.seed % 3
    larger = F.pad(operands["input"], (right, 0, down, 0))
    rois = operands["rois"].clone()
    rois[:, 1::2] += right / problem.scale  # whole image pixels, as psroi rounds them
    rois[:, 2::2] += down / problem.scale
    here = _between_pixels(problem)
    moved_bins = ~undecided_among(problem, rois.cpu().double(), problem.rounded()["offset"])
    rounded_down = (operands["rois"][:, 1:] % 1 == 0.5) & (operands["rois"][:, 1:] < 0)
    same = ~rounded_down.any(1).cpu().view(-1, 1, 1, 1)
    kept = (here & moved_bins & same & ~undecided_bins(problem)).to(target.device)
    moved = run_with(target, problem, (), input=larger, rois=rois)["output"]
    plain = run_with(target, problem, ())["output"]
    grown = problem.but(height=problem.height + down, width=problem.width + right)
    allowed = identity_tolerance(grown, 4, rois=rois.cpu(), input=larger)
    assert_within(allowed, {"output": moved * kept}, {"output": plain * kept})


def _between_pixels(problem):
    """Bins [R, C, ph, pw] of which no sample is clamped or left out."""
    exact = problem.rounded()
    kept = torch.zeros(problem.output_shape(), dtype=torch.bool)
    for index in range(len(problem.rois)):
        y, x = sample_points(problem, exact["rois"], exact["offset"], index)
        inside = (y >= 0) & (y <= problem.height - 1) & (x >= 0) & (x <= problem.width - 1)
        bins = inside.flatten(3).all(3)
        kept[index] = bins.repeat_interleave(problem.channels // len(bins), 0)
    return kept


@BOTH
@pytest.mark.parametrize(
    ("operand", "layout"),
    layouts_of(input=4, rois=2, offset=4, mask=2),  # a mask has one channel
)
@claim(
    lambda kind, operand, layout: pool_problems(
        kind=kind, dtype=PRECISE, offsets=FINITE[1:], layouts=("contiguous",)
    ).map(having(operand)),
    4,
)
def test_layout_of_a_pool_s_operand_changes_nothing(target, problem, kind, operand, layout):
    assert_layout_changes_nothing(target, problem, operand, layout)


@pytest.mark.gradients
@BOTH
@pytest.mark.parametrize("layout", ["sum", "channels_last", "strided", "storage_offset"])
@claim(lambda kind, layout: _precise(kind), 8)
def test_layout_of_a_pool_s_gradient_changes_nothing(target, problem, kind, layout):
    """`sum` has one element and strides of 0."""
    plain = problem.but(layouts=())
    grad = plain.grad_output(target.device)
    if layout == "sum":
        grad = torch.ones((), dtype=grad.dtype, device=grad.device).expand_as(grad)
        same = torch.ones_like(grad, memory_format=torch.contiguous_format)
    else:
        same = grad
        grad = plain.but(layouts=(("grad_output", layout),)).grad_output(target.device)
    got, want = (run_with(target, plain, grad_output=g) for g in (grad, same))
    assert_within(identity_tolerance(plain, grad_output=same), got, want)


@pytest.mark.gradients
@BOTH
@claim(lambda kind: _precise(kind), 10)
def test_gradients_of_a_pool_accumulate_over_steps(target, problem, kind):
    """Each backward pass adds its gradient, with a retained graph and with a new one."""
    leaves = {
        name: t if t is None or name == "rois" else t.detach().clone().requires_grad_()
        for name, t in problem.operands(target.device).items()
    }
    function, grad = target.backend.operator(problem.op), problem.grad_output(target.device)
    out = call(function, problem, leaves)
    out.backward(grad, retain_graph=True)
    out.backward(grad)
    call(function, problem, leaves).backward(grad)
    got = {f"grad_{n}": t.grad for n, t in leaves.items() if t is not None and n != "rois"}
    want = {name: 3 * result for name, result in run_with(target, problem).items()}
    assert_within(identity_tolerance(problem, 6), got, want)


@pytest.mark.gradients
@BOTH
@claim(
    lambda kind: (
        _precise(kind, layouts=("contiguous",))
        .filter(lambda p: p.rois)
        .map(lambda p: p.but(offsets="small", mask=False, classes=1))
    ),
    10,
)
def test_chain_rule_through_a_head_of_rois(target, problem, kind):
    """Offsets are predicted from the RoIs' pooling without offsets, as in a detector."""
    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    function = target.backend.operator(problem.op)
    shape = operands["offset"].shape
    head = (0.1 * problem.normal("head", problem.channels, shape[1:].numel())).to(grad)
    head.requires_grad_()
    input = operands["input"].requires_grad_()

    def predicted(source):
        plain = call(function, problem, {**operands, "input": source, "offset": None})
        return (plain.mean((2, 3)) @ head).view(shape).tanh()

    given = {**operands, "offset": predicted(input)}
    out = call(function, problem, given)
    reached = arriving({"offset": given["offset"]})
    got = torch.autograd.grad(out, (input, head), grad)
    back = torch.autograd.grad(predicted(input), (input, head), reached["grad_offset"])
    parts = evaluate(function, problem, given, grad, ("input", "offset"))
    reached["grad_input"] = got[0] - back[0]
    # The gradient of the pooling that feeds the head is rounded too.
    assert_within(identity_tolerance(problem, 4, offset=given["offset"]), reached, parts)
    assert torch.equal(got[1], back[1])


@claim(_precise("roi").map(lambda p: p.but(bins=(p.bins[0],) * 2)), 15)
def test_an_integer_and_a_pair_of_bins_mean_the_same(target, problem):
    function = target.backend.operator(problem.op)

    def with_an_integer(output_size, **rest):
        return function(output_size=output_size[0], **rest)

    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    got = evaluate(with_an_integer, problem, operands, grad)
    assert_within(identity_tolerance(problem), got, run_with(target, problem))


@BOTH
@pytest.mark.library
def test_compiled_pool_equals_eager_for_any_number_of_rois(target, kind):
    """One graph, without a break, for all numbers of RoIs and sizes of the map."""
    problem = RoIProblem(kind=kind, bins=(2, 2), dtype="float32", rois=("inside",) * 3)
    require_supported(target, problem)
    torch.compiler.reset()
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def pool(input, rois, offset, mask, **options):
        function = target.backend.operator(problem.op)
        return function(input, rois, offset * 0.5, mask.sigmoid(), **options).relu()

    compiled = torch.compile(pool, backend=counting, fullgraph=True, dynamic=True)
    # No two sizes are equal, nor equal to the columns of rois: dynamo would unify them.
    for count, height, width in ((11, 19, 23), (7, 29, 31), (13, 37, 17)):
        case = problem.but(rois=("inside",) * count, height=height, width=width)
        operands, grad = case.operands(target.device), case.grad_output(target.device)
        eager = evaluate(pool, case, operands, grad)
        assert_same_bits(evaluate(compiled, case, operands, grad), eager)
    assert len(graphs) == 1
