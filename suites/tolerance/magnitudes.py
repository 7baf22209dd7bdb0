# SPDX-License-Identifier: BSD-3-Clause
"""The magnitude of what is added up in a result, to which rounding errors of sums are proportional.

The rounding error of a sum depends on its terms, not on what is left after they cancel. So the
magnitude of a result is the same result with the absolute value of every term.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from suites.problems.evaluate import Results, evaluate
from suites.problems.problem import ConvProblem, Problem, RoIProblem
from suites.problems.pyramid import PyramidProblem
from suites.tolerance.naive_conv import NaiveConv


def run_naive(conv: NaiveConv, problem: ConvProblem, operands, grad) -> Results:
    """All results of a naive convolution, by name."""
    options = problem.options().values()
    sizes = conv.sizes(operands["input"], operands["offset"], operands["weight"], *options)
    out = conv.forward(**operands, sizes=sizes)
    operands = {name: t for name, t in operands.items() if name != "bias"}
    grads = conv.backward(grad, **operands, sizes=sizes)
    return {"output": out, **{f"grad_{name}": grad for name, grad in grads.items()}}


def conv_magnitudes(problem: ConvProblem, **changed: Tensor | None) -> Results:
    """Every result of a convolution with the absolute value of each of its terms.

    Args:
        problem: a convolution.
        changed: operands in place of the problem's own, float64 on the CPU; "grad_output" too.
    """
    exact = {**problem.rounded(), "grad_output": problem.rounded_grad_output(), **changed}
    operands = {name: t if t is None or name == "offset" else t.abs() for name, t in exact.items()}
    grad = operands.pop("grad_output")
    return run_naive(NaiveConv(absolute=True), problem, operands, grad)


def _conv_terms(problem: ConvProblem) -> dict[str, int]:
    """How many terms are added up in one entry of each result."""
    group_in = problem.in_channels // problem.groups
    group_out = problem.out_channels // problem.groups
    places = problem.batch * problem.out_size[0] * problem.out_size[1]
    point = problem.in_channels // problem.deform_groups * group_out
    return {
        "output": group_in * problem.taps,
        "grad_input": group_out * problem.taps * max(places // max(problem.batch, 1), 1),
        "grad_offset": point,
        "grad_weight": places,
        "grad_bias": places,
        "grad_mask": point,
    }


def bin_parts(problem: RoIProblem) -> tuple[Tensor, Tensor]:
    """The row and the column of the part whose offset each bin uses."""
    rows, cols = (
        torch.arange(bins) * parts // bins
        for bins, parts in zip(problem.bins, problem.parts, strict=True)
    )
    return rows, cols


def pool_magnitudes(problem: RoIProblem, **changed: Tensor | None) -> Results:
    """Every result of a pooling with the absolute value of each of its terms, or a bound of it.

    Arguments as in `conv_magnitudes`.
    """
    exact = {**problem.rounded(), "grad_output": problem.rounded_grad_output(), **changed}
    operands = {
        name: t if t is None or name in ("rois", "offset") else t.abs() for name, t in exact.items()
    }
    grad = operands.pop("grad_output")
    # Unlike a convolution's, a pool's coordinates are rounded, relative to the largest intermediate
    # number. A value changes by that error times its slopes.
    reach = _largest_coordinates(problem, operands["rois"])  # [R, 1, 1, 1]
    # A sample's four weights add up to 1 and change by less than `reach` roundings; the largest of
    # them, which dominates the norms, is at least a quarter.
    wide = (1 + 4 * reach) * grad
    sizes = evaluate(problem.reference, problem, operands, wide, ("input",))
    values = evaluate(problem.reference, problem, operands, grad, ("mask",))
    steepest = _steepest(problem, operands, grad, ("mask",))
    for name, value in values.items():
        sizes[name] = value + reach * steepest[name]
    if operands["offset"] is not None:
        sizes["grad_offset"] = (1 + 2 * reach) * _slope_sizes(problem, operands, grad)
    return sizes


def _largest_coordinates(problem: RoIProblem, rois: Tensor) -> Tensor:
    """The largest intermediate number of a RoI's coordinates, in pixels; [R, 1, 1, 1]."""
    edge = rois[:, 1:].abs().amax(1) * problem.scale
    return (edge + max(problem.height, problem.width) + 1).view(-1, 1, 1, 1)


def _steepest(problem: RoIProblem, operands, grad: Tensor, names=()) -> Results:
    """A pooling of bounds of the samples' slopes along both axes, instead of their values."""
    # A slope is a difference of neighbours: at most twice the largest pixel around the sample.
    largest = 4 * F.max_pool2d(operands["input"], 3, 1, 1)
    return evaluate(problem.reference, problem, {**operands, "input": largest}, grad, names)


def _slope_sizes(problem: RoIProblem, operands: dict[str, Tensor], grad: Tensor) -> Tensor:
    """The offset's gradient with the absolute value of each of its terms, or a bound of it."""
    numbers = {**operands, "offset": operands["offset"].nan_to_num(0.0)}
    slopes = grad * _steepest(problem, numbers, grad)["output"] / 2  # along one axis
    boxes = operands["rois"]
    extent = (boxes[:, 3:] - boxes[:, 1:3]).abs() + 2  # [R, 2], x then y, in image pixels
    extent = extent * problem.scale * problem.offset_scale
    by_class = slopes.unflatten(1, (problem.classes, -1)).sum(2)  # [R, classes, ph, pw]
    both = by_class[:, :, None] * extent[:, None, :, None, None]
    size = torch.zeros_like(operands["offset"])
    rois = torch.arange(size.shape[0])[:, None, None, None]
    channels = torch.arange(size.shape[1])[:, None, None]
    rows, cols = bin_parts(problem)
    at = (rois, channels, rows[:, None], cols)
    return size.index_put(at, both.flatten(1, 2), accumulate=True)


def pyramid_magnitudes(problem: PyramidProblem, **changed: Tensor | None) -> Results:
    """Those of each level's pooling, put together. Arguments as in `conv_magnitudes`."""
    exact = {**problem.rounded(), "grad_output": problem.rounded_grad_output(), **changed}
    sizes = {"output": torch.zeros(problem.output_shape(), dtype=torch.float64)}
    for level, name in enumerate(problem.differentiable):
        here = problem.of_level(level)
        part = pool_magnitudes(
            problem.pooling(level),
            input=exact[name],
            rois=problem.boxes_of_level(level, exact["rois"]),
            grad_output=exact["grad_output"][here],
        )
        sizes["output"][here], sizes[f"grad_{name}"] = part["output"], part["grad_input"]
    return sizes


def _pyramid_terms(problem: PyramidProblem) -> dict[str, int]:
    levels = range(len(problem.maps))
    terms = [_pool_terms(problem.pooling(level)) for level in levels]
    return {
        "output": max(term["output"] for term in terms),
        **{f"grad_input{level}": terms[level]["grad_input"] for level in levels},
    }


_MAGNITUDES = {"deform_conv2d": conv_magnitudes, "multiscale_roi_align": pyramid_magnitudes}


def magnitudes(problem: Problem, **changed: Tensor | None) -> Results:
    """`conv_magnitudes`, `pool_magnitudes` or `pyramid_magnitudes` of a problem."""
    return _MAGNITUDES.get(problem.op, pool_magnitudes)(problem, **changed)


def term_counts(problem: Problem) -> dict[str, int]:
    """How many terms are added up in one entry of each result, at most."""
    counts = {"deform_conv2d": _conv_terms, "multiscale_roi_align": _pyramid_terms}
    return counts.get(problem.op, _pool_terms)(problem)


def _pool_terms(problem: RoIProblem) -> dict[str, int]:
    bins = problem.bins[0] * problem.bins[1]
    side = problem.samples or 2 + round(10 * max(problem.height, problem.width))
    return {
        "output": side**2,
        "grad_input": side**2 * bins * len(problem.rois),
        "grad_offset": side**2 * problem.channels * bins,
        "grad_mask": side**2 * problem.channels,
    }
