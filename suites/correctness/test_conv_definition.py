# SPDX-License-Identifier: BSD-3-Clause
"""Deformable convolution equals its definition: the result and all five gradients."""

import math

import pytest
import torch
from hypothesis import strategies as st

from suites.claims.assertions import assert_agrees, assert_equals_reference, run_with
from suites.claims.claim import claim, require_supported
from suites.problems.evaluate import evaluate
from suites.problems.problem import ConvProblem
from suites.problems.strategies import DTYPES, EXTREME, conv_problems
from suites.tolerance.magnitudes import conv_magnitudes, term_counts
from suites.tolerance.tolerance import allowed_error


@pytest.mark.parametrize("dtype", DTYPES)
@claim(lambda dtype: conv_problems(dtype=dtype), 120)
def test_equals_the_reference(target, problem, dtype):
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("dtype", DTYPES)
@claim(lambda dtype: conv_problems(dtype=dtype, vectors=True), 30)
def test_channels_in_whole_vectors_equal_the_reference(target, problem, dtype):
    """Channels in multiples of 8 select other kernels."""
    assert_equals_reference(target, problem, target.run(problem))


def _one_output_pixel(dtype):
    """Also with channels in multiples of 8, whose weight can be read as it is stored."""
    kinds = (conv_problems(dtype=dtype, vectors=v) for v in (False, True))
    return st.one_of(*kinds).map(
        lambda problem: problem.but(
            stride=(
                problem.height + 2 * problem.padding[0],
                problem.width + 2 * problem.padding[1],
            ),
            in_channels=problem.in_channels * math.ceil(32 * problem.groups / problem.in_channels),
            out_channels=128 * problem.groups + problem.out_channels,
        )
    )


@pytest.mark.parametrize("dtype", DTYPES)
@claim(_one_output_pixel, 30)
def test_one_output_pixel_of_many_channels_equals_the_reference(target, problem, dtype):
    """Each weight is used once an image, so kernels may do without packing it."""
    assert_equals_reference(target, problem, target.run(problem))


def _extreme(dtype, extreme):
    """Also with channels in multiples of 8, which select other kernels."""
    kinds = (conv_problems(dtype=dtype, offsets=(extreme,), vectors=v) for v in (False, True))
    return st.one_of(*kinds)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extreme", EXTREME)
@claim(_extreme, 16)
def test_non_finite_or_out_of_range_offsets_affect_only_their_samples(
    target, problem, extreme, dtype
):
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_non_finite_pixel_affects_the_samples_that_have_it_as_a_corner(
    target, dtype, value, vectors
):
    """Also where its weight is 0, on the grid or under a mask of 0: zero times infinity is NaN."""
    channels = {"in_channels": 16, "out_channels": 16, "groups": 1, "deform_groups": 2}
    problem = ConvProblem(
        dtype=dtype, stride=(1, 1), padding=(1, 1), seed=9, **(channels if vectors else {})
    )
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    exact = problem.rounded()
    exact["input"][0, 1, 3, 2] = value
    exact["offset"] = torch.zeros_like(exact["offset"])
    given = {name: exact[name].to(problem.operand_dtype(name)).to(target.device)
             for name in ("input", "offset")}  # fmt: skip
    got = run_with(target, problem, ("input",), **given)
    want = problem.reference(**exact, **problem.options())
    finite = got["output"].isfinite().cpu()
    other = int((finite != want.isfinite()).sum())
    assert not other, f"output: {other} elements are finite in the reference only, or here only"
    assert got["grad_input"].isfinite().all(), "grad_input: not finite"
    assert finite.any()
    assert not finite.all()


@pytest.mark.parametrize("width", [64, 300, 1500, 8000, 70_000])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_coordinates_are_exact_far_from_the_origin(target, dtype, width):
    """Half types resolve coordinates beyond 128 only to an eighth of a pixel, or worse.

    A float32 coordinate beyond 65,536 is a multiple of 1/128 pixel.
    """
    problem = ConvProblem(
        batch=1, in_channels=4, out_channels=2, height=3, width=width, kernel=(2, 3),
        deform_groups=2, dtype=dtype, offsets="smooth", seed=1,
    )  # fmt: skip
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_samples_of_one_pixel_add_up(target, dtype):
    """Every tap of every output samples one cell, so its gradient has thousands of terms."""
    problem = ConvProblem(
        batch=3, in_channels=16, out_channels=8, height=33, width=31, kernel=(3, 3), groups=1,
        stride=(1, 1), padding=(1, 1), dilation=(1, 1), deform_groups=2, dtype=dtype, seed=3,
        offsets="clustered",
    )  # fmt: skip
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_of_a_large_image_in_one_cell_add_up(target, dtype):
    """More samples than an implementation can sort at once, in one cell of each image."""
    problem = ConvProblem(
        batch=2, in_channels=1, out_channels=1, height=257, width=263, kernel=(1, 1), groups=1,
        stride=(1, 1), padding=(0, 0), dilation=(1, 1), deform_groups=1, dtype=dtype, seed=3,
        offsets="clustered",
    )  # fmt: skip
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("width", [16, 17])
@pytest.mark.parametrize("dtype", DTYPES)
def test_as_many_samples_as_a_cell_may_have_equal_the_reference(target, dtype, width):
    """256 samples in a cell, and 272: the kernels order cells with more in another way."""
    problem = ConvProblem(
        batch=2, in_channels=8, out_channels=8, height=16, width=width, kernel=(3, 3), groups=1,
        stride=(1, 1), padding=(1, 1), dilation=(1, 1), deform_groups=1, dtype=dtype, seed=3,
        offsets="clustered",
    )  # fmt: skip
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("offsets", ["small", "clustered", "clustered_2x2"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_pixels_of_many_channels_equal_the_reference(target, dtype, offsets):
    """Several tiles of one group, the last one partial, with spread and with clustered samples."""
    problem = ConvProblem(
        batch=2, in_channels=64, out_channels=16, height=33, width=35, kernel=(3, 2), groups=1,
        stride=(1, 1), padding=(1, 1), dilation=(1, 1), deform_groups=1, dtype=dtype, seed=4,
        offsets=offsets,
    )  # fmt: skip
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


def _narrow(dtype, groups, channels, outputs, deform_groups):
    return ConvProblem(
        batch=1, in_channels=channels, out_channels=outputs, height=5, width=6, kernel=(2, 3),
        stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=groups, deform_groups=deform_groups,
        dtype=dtype, seed=7,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("groups", "channels", "outputs", "deform_groups"),
    [
        (32, 256, 256, 2),  # 8 channels of a group, as in ResNeXt
        (64, 256, 512, 1),  # 4, with twice the outputs
        (256, 256, 256, 1),  # depthwise
        (16, 128, 64, 4),  # deform groups narrower than a tile
        (12, 96, 96, 3),  # no divisor fills a tile
        (4, 192, 64, 3),  # groups and deform groups that do not divide one another
        (2, 384, 768, 1),  # wide groups
        (2, 256, 64, 2),  # as wide as a tile, and as the deform groups
    ],
)
def test_groups_equal_the_reference(target, groups, channels, outputs, deform_groups, dtype):
    """Kernels may compute narrow groups together, with zeros between them in the weight."""
    problem = target.adapt_fixed(_narrow(dtype, groups, channels, outputs, deform_groups))
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("deform_groups", [1, 16])
def test_a_group_that_is_not_finite_leaves_the_others_as_they_are(target, deform_groups, dtype):
    """Zero times infinity is NaN, so groups can't be computed as zeros of a wider weight."""
    problem = target.adapt_fixed(_narrow(dtype, 16, 128, 64, deform_groups))
    require_supported(target, problem)
    image, grad = problem.operands(target.device)["input"], problem.grad_output(target.device)
    image[:, 0, 2, 3] = grad[:, 0, 1, 1] = float("inf")
    image[:, 7, 4, 5] = grad[:, 3, 2, 0] = float("nan")
    got = run_with(target, problem, input=image, grad_output=grad)
    expectation = target.session.expectation(problem)
    axes = {"output": 1, "grad_input": 1, "grad_weight": 0, "grad_bias": 0}
    if deform_groups == problem.groups:
        axes |= {"grad_offset": 1, "grad_mask": 1}
    for name, axis in axes.items():
        result, want = got[name].cpu().double(), expectation.truth[name]
        first = want.shape[axis] // problem.groups
        result.narrow(axis, 0, first).copy_(want.narrow(axis, 0, first))
        ratio = expectation.tolerances[name].error_ratio(result, want)
        assert ratio <= 1, f"{name} of other groups: error {ratio:.3g} times the tolerance"


@pytest.mark.cuda_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_more_tiles_than_a_gpu_holds_at_once_equal_the_reference(target, dtype):
    """Blocks process a second and a third tile, which must not depend on the first."""
    problem = ConvProblem(
        batch=3, in_channels=16, out_channels=16, height=211, width=223, kernel=(1, 2), groups=1,
        stride=(1, 1), padding=(0, 1), dilation=(1, 1), deform_groups=1, dtype=dtype, seed=6,
    )  # fmt: skip
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.cuda_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_a_large_weight_is_exact_for_whole_numbers(target, dtype):
    """The weight has more tiles than a GPU has multiprocessors, and the rest is split along K.

    Without offsets this is a regular convolution, and sums of small integers are exact.
    """
    problem = ConvProblem(
        batch=1, in_channels=1024, out_channels=256, height=48, width=48, kernel=(3, 3), groups=1,
        stride=(1, 1), padding=(1, 1), dilation=(1, 1), deform_groups=1, bias=False, mask=False,
        dtype=dtype, seed=8,
    )  # fmt: skip
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    numbers, kept = problem.generator("whole numbers"), problem.operand_dtype("input")
    operands, grad_output = problem.operands(target.device), problem.grad_output(target.device)
    offset = torch.zeros_like(operands["offset"])
    image, grad = (
        torch.randint(-2, 3, own.shape, generator=numbers).double()
        for own in (operands["input"], grad_output)
    )
    given = {n: t.to(kept).to(target.device) for n, t in (("input", image), ("grad_output", grad))}
    got = run_with(target, problem, ("weight",), offset=offset, **given)["grad_weight"]
    want = torch.nn.grad.conv2d_weight(image, got.shape, grad, padding=problem.padding)
    assert torch.equal(got.cpu(), want.to(kept))


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_image_is_sampled_without_an_error(target, dtype):
    """Interpolation weights add up to 1, so with integers every sum is exact.

    Only the final rounding is allowed, in half types too.
    """
    problem = ConvProblem(
        batch=2, in_channels=16, out_channels=8, height=5, width=7, deform_groups=4, bias=False,
        mask=False, dtype=dtype, offsets="clustered", seed=6,
    )  # fmt: skip
    problem = target.adapt_fixed(problem)
    require_supported(target, problem)
    numbers = problem.generator("whole numbers")
    exact = {**problem.rounded(), "grad_output": problem.rounded_grad_output()}
    for name in ("weight", "grad_output"):
        exact[name] = torch.randint(-3, 4, exact[name].shape, generator=numbers).double()
    exact["input"] = torch.full_like(exact["input"], 1.5)
    kept = problem.operand_dtype("input")
    given = {n: exact[n].to(kept).to(target.device) for n in ("input", "weight", "grad_output")}
    got = run_with(target, problem, ("weight",), **given)

    sizes, terms = conv_magnitudes(problem, **exact), term_counts(problem)
    grad = exact.pop("grad_output")
    want = evaluate(problem.reference, problem, exact, grad, ("weight",))
    for name in ("output", "grad_weight"):
        tolerance = allowed_error(want[name], sizes[name], terms[name], kept)
        ratio = tolerance.error_ratio(got[name], want[name])
        assert ratio <= 1, f"{name}: error {ratio:.3g} times that of one rounding"


def _square(problem):
    return problem.but(
        stride=(problem.stride[0],) * 2, padding=(3, 3), dilation=(problem.dilation[1],) * 2,
        height=max(problem.height, 7), width=max(problem.width, 9), layouts=(),
    )  # fmt: skip


@pytest.mark.integers
@claim(conv_problems(dtype=("float32", "float16"), empty=False).map(_square), 30)
def test_integers_and_pairs_mean_the_same(target, problem):
    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    function = target.backend.operator(problem.op)

    def with_integers(stride, padding, dilation, **tensors):
        return function(stride=stride[0], padding=padding[0], dilation=dilation[0], **tensors)

    got = evaluate(with_integers, problem, operands, grad)
    assert_agrees(target, problem, got, evaluate(function, problem, operands, grad))


@pytest.mark.ours  # a convention: others may return any slope between the one-sided ones
@pytest.mark.parametrize("dtype", DTYPES)
@claim(lambda dtype: conv_problems(dtype=dtype, offsets=("zero", "integer", "kink")), 40)
def test_slope_at_a_kink_is_the_right_sided_one(target, problem, dtype):
    """y0 = floor(y), also at -1, where training starts: zero offsets with padding 1."""
    got = target.run(problem)
    assert_equals_reference(target, problem, got, at_kinks=True)
