# SPDX-License-Identifier: BSD-3-Clause
"""Identities of any deformable convolution, which do not depend on the reference.

Each claim compares evaluations of the implementation with one another, or with conv2d, in float64
and float32. They may differ only by rounding.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from suites.claims.assertions import assert_layout_changes_nothing, assert_within, run_with
from suites.claims.claim import claim
from suites.problems.evaluate import zeros_like
from suites.problems.layouts import layouts_of
from suites.problems.strategies import PRECISE, conv_problems, having
from suites.tolerance.tolerance import identity_tolerance

ANY = conv_problems(dtype=PRECISE)
SEVERAL = ANY.filter(lambda p: p.batch > 1)
PLAIN = conv_problems(dtype=PRECISE, layouts=("contiguous",))
MASKED = ANY.filter(lambda p: p.mask)
OFF_KINKS = ("small", "smooth", "large")  # for which every result depends on the offsets
MOVED = conv_problems(dtype=PRECISE, offsets=OFF_KINKS, layouts=("contiguous",))


def _gradients(out, leaves, grad_output):
    """Results by name of an expression of named leaves."""
    grads = torch.autograd.grad(out, list(leaves.values()), grad_output)
    named = {f"grad_{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    return {"output": out.detach(), **named}


def _leaves(problem, device, *names):
    operands = problem.operands(device)
    return {n: operands[n].detach().requires_grad_() for n in names if operands[n] is not None}


@claim(conv_problems(dtype=PRECISE, offsets=("zero",)))
def test_zero_offset_and_unit_mask_is_conv2d(target, problem):
    mask = problem.operands(target.device)["mask"]
    unit = None if mask is None else torch.ones_like(mask)
    names = ("input", "weight", "bias")
    got = run_with(target, problem, names, mask=unit)
    leaves = _leaves(problem, target.device, *names)
    out = F.conv2d(**{"bias": None, **leaves}, **problem.options(), groups=problem.groups)
    want = _gradients(out, leaves, problem.grad_output(target.device))
    assert_within(identity_tolerance(problem, mask=None), got, want)


@claim(PLAIN)
def test_integer_offset_is_a_shifted_conv(target, problem):
    """Each tap moves by its own integer offset: a sum of 1x1 convolutions of shifted images."""
    taps = problem.taps
    shifts = torch.randint(-2, 3, (taps, 2), generator=problem.generator("shift"))
    shape = (problem.batch, problem.deform_groups, taps, 2, *problem.out_size)
    offset = shifts.view(1, 1, taps, 2, 1, 1).expand(shape).reshape(problem.offset_shape)
    offset = offset.to(problem.operand_dtype("offset")).to(target.device)
    names = ("input", "weight")
    got = run_with(target, problem, names, offset=offset, mask=None, bias=None)

    leaves = _leaves(problem, target.device, *names)
    margin, out = 24, 0.0  # farther than any tap of these problems is from the image
    framed = F.pad(leaves["input"], (margin,) * 4)
    for tap in range(taps):
        row, col = divmod(tap, problem.kernel[1])
        rows = _reads(problem, 0, row) + shifts[tap, 0] + margin
        cols = _reads(problem, 1, col) + shifts[tap, 1] + margin
        moved = framed[:, :, rows.to(target.device)][..., cols.to(target.device)]
        out = out + F.conv2d(
            moved, leaves["weight"][:, :, row, col, None, None], groups=problem.groups
        )
    want = _gradients(out, leaves, problem.grad_output(target.device))
    assert_within(identity_tolerance(problem, offset=offset, mask=None, bias=None), got, want)


def _reads(problem, axis, place):
    """Rows, or columns, that one row or column of an undeformed kernel reads."""
    outs = torch.arange(problem.out_size[axis])
    start = place * problem.dilation[axis] - problem.padding[axis]
    return outs * problem.stride[axis] + start


@pytest.mark.tensors
@pytest.mark.parametrize(
    ("operand", "layout"), layouts_of(input=4, offset=4, weight=4, bias=1, mask=4)
)
@claim(lambda operand, layout: MOVED.map(having(operand)), 5)
def test_layout_of_an_operand_changes_nothing(target, problem, operand, layout):
    assert_layout_changes_nothing(target, problem, operand, layout)


def _one_column(problem):
    """A problem whose maps are one pixel wide, so that only the stride of rows counts."""
    reach = problem.padding[1]
    return problem.but(width=1, kernel=(problem.kernel[0], 1), stride=(1, reach + 1))


@pytest.mark.tensors
@pytest.mark.parametrize("layout", ["crop", "channels_last_crop"])
@pytest.mark.parametrize("operand", ["input", "offset", "mask"])
@claim(lambda operand, layout: MOVED.map(having(operand)).map(_one_column), 5)
def test_layout_of_one_column_changes_nothing(target, problem, operand, layout):
    """A column of a wider map: its pixels are as far apart as the map's rows."""
    assert_layout_changes_nothing(target, problem, operand, layout)


@pytest.mark.parametrize("operand", ["input", "weight", "mask"])
@claim(lambda operand: MASKED if operand == "mask" else ANY, 25)
def test_linear_in(target, problem, operand):
    """f(u/2 - 2v) = f(u)/2 - 2 f(v) without a bias; likewise gradients of the other operands."""
    u, v = (
        p.operands(target.device)[operand] for p in (problem, problem.but(seed=problem.seed + 1))
    )
    names = [name for name in ("input", "offset", "weight", "mask") if name != operand]
    first, second, mixed = (
        run_with(target, problem, names, bias=None, **{operand: value})
        for value in (u, v, 0.5 * u - 2 * v)
    )
    combined = {name: 0.5 * first[name] - 2 * second[name] for name in first}
    largest = {operand: 0.5 * u.abs() + 2 * v.abs()}
    assert_within(identity_tolerance(problem, bias=None, **largest), mixed, combined)


@claim(MASKED)
def test_no_mask_is_a_mask_of_ones(target, problem):
    shape = (problem.batch, problem.deform_groups * problem.taps, *problem.out_size)
    ones = torch.ones(shape, dtype=problem.operand_dtype("mask"), device=target.device)
    names = ("input", "offset", "weight", "bias")
    without = run_with(target, problem, names, mask=None)
    assert_within(
        identity_tolerance(problem, mask=None), run_with(target, problem, names, mask=ones), without
    )


@claim(ANY.filter(lambda p: p.bias))
def test_bias_is_added_once(target, problem):
    grad = problem.grad_output(target.device)
    bias = problem.operands(target.device)["bias"]
    having = run_with(target, problem)
    without = run_with(target, problem, bias=None)
    without["output"] = without["output"] + bias.view(1, -1, 1, 1)
    without["grad_bias"] = grad.sum((0, 2, 3))
    assert_within(identity_tolerance(problem), having, without)


def _batchwise(problem, device):
    operands = problem.operands(device)
    return {n: t for n, t in operands.items() if n in ("input", "offset", "mask") and t is not None}


@claim(SEVERAL, 25)
def test_permuting_the_batch_permutes_the_result(target, problem):
    order = torch.randperm(problem.batch, generator=problem.generator("order"))
    order = order.to(target.device)
    moved = {name: t[order] for name, t in _batchwise(problem, target.device).items()}
    grad = problem.grad_output(target.device)[order]
    got = run_with(target, problem, grad_output=grad, **moved)
    want = run_with(target, problem)
    for name in ("output", *(f"grad_{name}" for name in moved)):
        want[name] = want[name][order]
    assert_within(identity_tolerance(problem), got, want)


@claim(SEVERAL, 25)
def test_splitting_the_batch_changes_nothing(target, problem):
    grad, parts = problem.grad_output(target.device), []
    cut = 1 + problem.seed % (problem.batch - 1)
    for piece in (slice(None, cut), slice(cut, None)):
        part = {name: t[piece] for name, t in _batchwise(problem, target.device).items()}
        parts.append(run_with(target, problem, grad_output=grad[piece], **part))
    first, second = parts
    joined = {
        name: first[name] + second[name]
        if name in ("grad_weight", "grad_bias")
        else torch.cat((first[name], second[name]))
        for name in first
    }
    assert_within(identity_tolerance(problem), run_with(target, problem), joined)


def _by_group(tensor, groups):
    """[N, G*..., Ho, Wo] as [N, G, ..., Ho, Wo]."""
    return tensor.reshape(tensor.shape[0], groups, tensor.shape[1] // groups, *tensor.shape[2:])


def _channels_of(problem, group):
    """Input channels of a weight group, and the deform group of each of its smallest shares."""
    group_in, deform_in = (
        problem.in_channels // n for n in (problem.groups, problem.deform_groups)
    )
    unit = math.gcd(group_in, deform_in)
    first = group * group_in
    return slice(first, first + group_in), [
        channel // deform_in for channel in range(first, first + group_in, unit)
    ]


@claim(ANY.filter(lambda p: p.groups > 1), 30)
def test_groups_are_separate_convolutions(target, problem):
    operands, whole = problem.operands(target.device), run_with(target, problem)
    grad, size = problem.grad_output(target.device), problem.out_channels // problem.groups
    joined = zeros_like(whole)
    for group in range(problem.groups):
        channels, shares = _channels_of(problem, group)
        outs = slice(group * size, (group + 1) * size)
        part = {"input": operands["input"][:, channels], "weight": operands["weight"][outs]}
        if problem.bias:
            part["bias"] = operands["bias"][outs]
        points = [name for name in ("offset", "mask") if operands[name] is not None]
        for name in points:
            by_group = _by_group(operands[name], problem.deform_groups)
            part[name] = by_group[:, shares].flatten(1, 2)
        got = run_with(target, problem, grad_output=grad[:, outs], **part)
        joined["output"][:, outs] = got["output"]
        joined["grad_input"][:, channels] = got["grad_input"]
        for name in ("weight", "bias") if problem.bias else ("weight",):
            joined[f"grad_{name}"][outs] = got[f"grad_{name}"]
        for name in points:
            total = _by_group(joined[f"grad_{name}"], problem.deform_groups)
            share = _by_group(got[f"grad_{name}"], len(shares))
            total.index_add_(1, torch.tensor(shares, device=grad.device), share)
    assert_within(identity_tolerance(problem), whole, joined)


@claim(ANY.filter(lambda p: p.deform_groups > 1), 30)
def test_deform_groups_are_a_sum_over_masked_channels(target, problem):
    operands = problem.operands(target.device)
    whole = run_with(target, problem, bias=None)
    joined = zeros_like(whole)
    each = problem.in_channels // problem.deform_groups
    for group in range(problem.deform_groups):
        channels = slice(group * each, (group + 1) * each)
        part = {"input": torch.zeros_like(operands["input"].contiguous())}
        part["input"][:, channels] = operands["input"][:, channels]
        points = [name for name in ("offset", "mask") if operands[name] is not None]
        for name in points:
            part[name] = _by_group(operands[name], problem.deform_groups)[:, group]
        got = run_with(target, problem, bias=None, **part)
        joined["output"] += got["output"]
        joined["grad_weight"] += got["grad_weight"]
        joined["grad_input"][:, channels] = got["grad_input"][:, channels]
        for name in points:
            total = _by_group(joined[f"grad_{name}"], problem.deform_groups)
            total[:, group] = got[f"grad_{name}"]
    assert_within(identity_tolerance(problem, bias=None), whole, joined)


@claim(PLAIN, 30)
def test_translation_moves_the_result(target, problem):
    """Padding an image by multiples of the stride shifts the result by as many outputs."""
    rows, cols = 1 + problem.seed % 2, 1 + problem.seed % 3
    top, left = rows * problem.stride[0], cols * problem.stride[1]
    larger = problem.but(height=problem.height + top, width=problem.width + left)
    operands, inner = problem.operands(target.device), (slice(rows, None), slice(cols, None))
    moved = {name: t for name, t in larger.operands(target.device).items() if t is not None}
    moved["input"] = F.pad(operands["input"], (left, 0, top, 0))
    for name in ("offset", "mask"):
        if name in moved:
            moved[name][..., inner[0], inner[1]] = operands[name]
    grad = F.pad(problem.grad_output(target.device), (cols, 0, rows, 0))
    got = run_with(target, larger, grad_output=grad, **moved)
    for name in {"output", "grad_offset", "grad_mask"} & got.keys():
        got[name] = got[name][..., inner[0], inner[1]]
    got["grad_input"] = got["grad_input"][:, :, top:, left:]
    assert_within(identity_tolerance(problem), got, run_with(target, problem))


@claim(MASKED.filter(lambda p: p.taps > 1), 30)
def test_mask_0_removes_a_tap(target, problem):
    """As a zero weight does; the removed tap's offset has no gradient."""
    operands, tap = problem.operands(target.device), problem.seed % problem.taps
    mask = _by_group(operands["mask"], problem.deform_groups).clone()
    mask[:, :, tap] = 0
    weight = operands["weight"].clone().contiguous()
    weight.flatten(2)[:, :, tap] = 0
    names = ("input", "offset")
    masked = run_with(target, problem, names, mask=mask.flatten(1, 2))
    assert_within(
        identity_tolerance(problem), masked, run_with(target, problem, names, weight=weight)
    )
    slope = _by_group(masked["grad_offset"], problem.deform_groups)
    removed = slope[:, :, 2 * tap : 2 * tap + 2]
    assert not removed.any(), "grad_offset: not zero at a tap whose mask is 0"


@pytest.mark.parametrize("distance", [1e4, -1e4, 1e20, -math.inf])
@claim(lambda distance: MASKED.filter(lambda p: p.taps > 1), 10)
def test_beyond_the_border_is_zero(target, problem, distance):
    """A tap sampled far outside contributes nothing, as with mask 0, and has no gradient."""
    operands, tap = problem.operands(target.device), problem.seed % problem.taps
    offset = _by_group(operands["offset"], problem.deform_groups).clone()
    offset[:, :, 2 * tap + problem.seed % 2] = distance
    mask = _by_group(operands["mask"], problem.deform_groups).clone()
    mask[:, :, tap] = 0
    far = run_with(target, problem, offset=offset.flatten(1, 2))
    removed = run_with(target, problem, mask=mask.flatten(1, 2))
    assert_within(identity_tolerance(problem), far, removed, "output", "grad_input", "grad_weight")
    points = _by_group(far["grad_offset"], problem.deform_groups)
    slope, value = points[:, :, 2 * tap : 2 * tap + 2], far["grad_mask"]
    assert not slope.any(), "grad_offset: not zero at a point far outside"
    outside = _by_group(value, problem.deform_groups)[:, :, tap]
    assert not outside.any(), "grad_mask: not zero at a point far outside"
