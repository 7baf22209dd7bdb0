# SPDX-License-Identifier: BSD-3-Clause
"""Gradients of deformable convolution are correct, for every use that autograd allows."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from suites.claims.assertions import assert_derivative, assert_same_bits, assert_within, run_with
from suites.claims.claim import claim, require_supported
from suites.problems.conv_offsets import NEAR_KINK
from suites.problems.evaluate import arriving, call, evaluate
from suites.problems.problem import ConvProblem
from suites.problems.strategies import DTYPES, PRECISE, conv_problems, having
from suites.tolerance.expectation import kinks
from suites.tolerance.tolerance import identity_tolerance

pytestmark = pytest.mark.gradients

ANY = conv_problems(dtype=PRECISE)
PLAIN = conv_problems(dtype=PRECISE, layouts=("contiguous",))
OPERANDS = ConvProblem.differentiable


def _tiny(problem):
    """Shrink operands to a hundred or two elements, so that each can be perturbed."""
    deform_groups = min(problem.deform_groups, 3)
    return problem.but(
        batch=1 + (problem.batch > 2),
        in_channels=math.lcm(problem.groups, deform_groups),
        out_channels=problem.groups,
        height=3,
        width=4,
        kernel=(2, 1) if problem.kernel[0] < 3 else (1, 3),
        stride=tuple(min(s, 2) for s in problem.stride),
        padding=(1, 0) if problem.kernel[0] < 3 else (0, 2),
        dilation=tuple(min(d, 2) for d in problem.dilation),
        deform_groups=deform_groups,
    )


SMOOTH = conv_problems(dtype="float64", offsets=("smooth",), layouts=("contiguous", "transposed"))
SMOOTH = SMOOTH.map(_tiny)


@pytest.mark.parametrize("operand", OPERANDS)
@claim(lambda operand: SMOOTH.map(having(operand)), 8)
def test_difference_quotients_give_the_gradient_of(target, problem, operand):
    operands = problem.operands(target.device)
    function = target.backend.operator(problem.op)

    def result(leaf):
        return call(function, problem, {**operands, operand: leaf})

    assert_derivative(target, result, operands[operand].detach().requires_grad_())


@pytest.mark.library
@claim(SMOOTH.map(lambda p: p.but(batch=1, width=3, bias=True, mask=True)), 2)
def test_difference_quotients_give_the_second_derivatives(target, problem):
    leaves = [t.detach().requires_grad_() for t in problem.operands(target.device).values()]
    function = target.backend.operator(problem.op)

    def result(*values):
        return call(function, problem, dict(zip(problem.operand_names, values, strict=True)))

    assert torch.autograd.gradgradcheck(result, leaves)


@claim(conv_problems(dtype=PRECISE, offsets=("zero", "integer", "kink")), 40)
def test_slope_at_a_kink_lies_between_the_one_sided_ones(target, problem):
    """For either one-sided convention, also at -1 and beyond the last pixel."""
    got = target.run(problem, ("offset",))["grad_offset"].cpu().double()
    expectation = target.session.expectation(problem)
    right, left = expectation.truth["grad_offset"], torch.empty_like(got)
    exact, grad = expectation.operands, expectation.grad_output
    for axis in (0, 1):
        before = exact["offset"].clone()
        before[:, axis::2] -= NEAR_KINK / 2  # slopes are constant from one pixel to the next
        slopes = evaluate(problem.reference, problem, {**exact, "offset": before}, grad)
        left[:, axis::2] = slopes["grad_offset"][:, axis::2]
    room = expectation.tolerances_at_kinks["grad_offset"].maximum
    on_kink = kinks(problem, exact["offset"])[0].repeat_interleave(2, 1)
    low, high = torch.minimum(left, right) - room, torch.maximum(left, right) + room
    outside = ~((low <= got) & (got <= high))[on_kink]
    assert not outside.any(), f"grad_offset: {int(outside.sum())} of {outside.numel()} are outside"


@pytest.mark.tensors
@claim(PLAIN, 12)
def test_frozen_operands_leave_the_other_gradients_as_they_are(target, problem):
    whole, allowed = target.run(problem), identity_tolerance(problem)
    present = [name for name in OPERANDS if f"grad_{name}" in whole]
    for count in range(1, len(present)):
        for wanted in itertools.combinations(present, count):
            got = target.run(problem, wanted)
            assert got.keys() == {"output", *(f"grad_{name}" for name in wanted)}
            assert_within(allowed, got, whole)


@pytest.mark.tensors
@pytest.mark.parametrize(
    "kind", ["sum", "channels_last", "transposed", "strided", "storage_offset"]
)
@claim(lambda kind: ANY, 12)
def test_layout_of_the_gradient_changes_nothing(target, problem, kind):
    """`sum` has one element and strides of 0."""
    plain = problem.but(layouts=())
    grad = plain.grad_output(target.device)
    if kind == "sum":
        grad = torch.ones((), dtype=grad.dtype, device=grad.device).expand_as(grad)
        same = torch.ones_like(grad, memory_format=torch.contiguous_format)
    else:
        same, grad = grad, plain.but(layouts=(("grad_output", kind),)).grad_output(target.device)
    got = run_with(target, plain, grad_output=grad)
    want = run_with(target, plain, grad_output=same)
    assert_within(identity_tolerance(plain, grad_output=same), got, want)


@pytest.mark.tensors
@claim(ANY, 10)
def test_gradients_accumulate_over_steps(target, problem):
    """Each backward pass adds its gradient, with a retained graph and with a new one."""
    leaves = {
        name: None if t is None else t.detach().clone().requires_grad_()
        for name, t in problem.operands(target.device).items()
    }
    function, grad = target.backend.operator(problem.op), problem.grad_output(target.device)
    out = call(function, problem, leaves)
    out.backward(grad, retain_graph=True)
    out.backward(grad)
    call(function, problem, leaves).backward(grad)
    got = {f"grad_{n}": t.grad for n, t in leaves.items() if t is not None}
    want = {name: 3 * result for name, result in run_with(target, problem).items()}
    assert_within(identity_tolerance(problem, 6), got, want)


@pytest.mark.tensors
@claim(PLAIN.filter(lambda p: p.batch).map(lambda p: p.but(mask=True)), 10)
def test_chain_rule_through_a_module(target, problem):
    """Offsets and masks are predicted by a convolution of the same input, as in a network."""
    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    function = target.backend.operator(problem.op)
    channels = problem.deform_groups * problem.taps * 3
    shape = (channels, problem.in_channels, *problem.kernel)
    head = (0.1 * problem.normal("head", *shape)).to(grad).requires_grad_()
    input = operands["input"].requires_grad_()

    def predicted(source):
        out = F.conv2d(source, head, None, **problem.options())
        return out[:, : channels // 3 * 2], out[:, channels // 3 * 2 :].sigmoid()

    # cuDNN's default order of summation for the head's gradient may vary.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        offset, mask = predicted(input)
        places = {"offset": offset, "mask": mask}
        out = call(function, problem, {**operands, **places})
        reached = arriving(places)
        got = torch.autograd.grad(out, (input, head), grad)
        back = torch.autograd.grad(
            predicted(input), (input, head), (reached["grad_offset"], reached["grad_mask"])
        )
    parts = evaluate(function, problem, {**operands, **places}, grad, ("input", *places))
    reached["grad_input"] = got[0] - back[0]
    assert_within(identity_tolerance(problem, **places), reached, parts)
    assert torch.equal(got[1], back[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_an_empty_batch_are_empty_or_zero(target, dtype):
    """Gradients of an empty batch are empty, or zero for weight and bias."""
    problem = target.adapt_fixed(ConvProblem(batch=0, dtype=dtype))
    require_supported(target, problem)
    got = target.run(problem)
    want = {name: torch.zeros_like(result) for name, result in got.items()}
    assert_same_bits(got, want)
    assert got["grad_weight"].shape == problem.operands()["weight"].shape
