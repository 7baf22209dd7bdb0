# SPDX-License-Identifier: BSD-3-Clause
"""The price: how far rounding may take a correct implementation from the truth.

An error may be at most, in the Euclidean and in the maximum norm,

    2 |plain - truth|  +  u_out |truth|  +  (8 + sqrt(n)) u_sum |size|

- `plain` is a plain evaluation in the same precision: operands in their dtype, coordinates, weights
  and sums in float32 (float64 for float64), each factor of a product rounded once to the operands'
  dtype as a matrix unit asks, the result rounded once. Of two orders of work (multiply then
  scatter, gather then multiply) the worse one counts.
- u_out |truth| is one rounding of the result; u is half the spacing of numbers at 1.
- The last term is what float32 sums may lose however lucky the plain evaluation was. `size` is the
  result with the absolute value of every term, n the number of terms added up; eight roundings
  befall a term before it is added, and rounding errors of a sum grow as sqrt(n) (Higham and Mary,
  A new approach to probabilistic rounding error analysis, 2019). It matters in float32 and float64
  alone, where bugs are many orders larger; the truth's own float64 rounding is counted with it.

None of these constants was fitted to an implementation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from suites.evaluation import Results, evaluate, expected
from suites.plain import GatheringConv, PlainConv
from suites.problems import ConvProblem, Problem, RoIProblem
from suites.regions import undecided_bins

ROUNDINGS = 8
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Price:
    """Allowed error of one tensor, in both norms, over the entries `counted`, or over all."""

    euclidean: float
    maximum: float
    counted: Tensor | None

    def spent(self, got: Tensor, want: Tensor) -> float:
        """The share of the price that an error takes, in the worse norm; above 1 it is too much."""
        error = got.detach().cpu().double() - want
        if self.counted is not None:
            error = error[self.counted]
        if not error.isfinite().all():
            return math.inf
        return max(
            _share(norm(error, 2), self.euclidean), _share(norm(error, math.inf), self.maximum)
        )


def unit(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def norm(values: Tensor, order: float) -> float:
    """A vector norm, 0 for no values."""
    return float(torch.linalg.vector_norm(values, order)) if values.numel() else 0.0


def _share(error: float, allowed: float) -> float:
    if error == 0:
        return 0.0
    return error / allowed if allowed else math.inf


def rounding_price(truth: Tensor, size: Tensor, terms: int, dtype: torch.dtype) -> Price:
    """The price without a plain evaluation: the second and third term alone."""
    everywhere = torch.ones_like(size, dtype=torch.bool)
    price = _price(truth, [], size, terms, dtype, dtype, everywhere)
    return Price(price.euclidean, price.maximum, None)


def _price(truth, plains, size, terms, dtype, compute, counted) -> Price:
    sums = unit(torch.float64 if compute == torch.float64 else torch.float32) + 2.0**-53
    sums *= ROUNDINGS + math.sqrt(terms)

    def allowed(order: float) -> float:
        plain = max((norm((p.double() - truth)[counted], order) for p in plains), default=0.0)
        out = unit(dtype) * norm(truth[counted], order)
        return 2 * plain + out + sums * norm(size[counted], order)

    return Price(allowed(2), allowed(math.inf), counted)


@lru_cache(maxsize=2048)
def prices(problem: Problem, at_kinks: bool = False) -> dict[str, Price]:
    """The price of every result of a problem, by the names of `expected`.

    Args:
        problem: any.
        at_kinks: whether gradients of points on a kink are compared too.
    """
    truth = expected(problem)
    plains, sizes, terms = _conv(problem) if problem.op == "deform_conv2d" else _pool(problem)
    compute = problem.operand_dtype("input")
    return {
        name: _price(
            truth[name],
            [plain[name] for plain in plains],
            sizes[name],
            terms[name],
            problem.operand_dtype(name.removeprefix("grad_")),
            compute,
            decided(problem, name, at_kinks) & ~truth[name].isnan(),
        )
        for name in truth
    }


def decided(problem: Problem, name: str, at_kinks: bool = False) -> Tensor:
    """Entries of a result that are compared.

    Left out are gradients of points that are NaN or, unless asked for, lie on a kink (there the
    derivative is a convention, with properties of its own), and bins on whose side of a jump
    rounding decides.
    """
    everywhere = torch.ones_like(expected(problem)[name], dtype=torch.bool)
    if isinstance(problem, RoIProblem):
        return _decided_of_pool(problem, name, everywhere)
    if name not in ("grad_offset", "grad_mask"):
        return everywhere
    on_kink, is_nan = kinks(problem)
    if name == "grad_mask":
        return ~is_nan
    left_out = (is_nan if at_kinks else on_kink | is_nan)[:, :, None].expand(-1, -1, 2, -1, -1)
    return ~left_out.reshape(everywhere.shape)


def _decided_of_pool(problem: RoIProblem, name: str, everywhere: Tensor) -> Tensor:
    if name == "output":
        return ~undecided_bins(problem)
    offset = problem.rounded()["offset"]
    if offset is None or name == "grad_input":
        return everywhere
    moved = offset.unflatten(1, (-1, 2))  # [R, classes, 2, parts, parts], x then y
    if problem.kind == "roi":  # an infinite offset of a region without size is no number either
        boxes = problem.rounded()["rois"]
        moved = moved * (boxes[:, 3:] - boxes[:, 1:3])[:, None, :, None, None]
    is_nan = moved.isnan().any(2)  # [R, classes, parts, parts]
    if name == "grad_offset":
        return ~is_nan.repeat_interleave(2, 1)
    rows, cols = _parts(problem)
    return ~is_nan[:, :, rows[:, None], cols].any(1, keepdim=True)


def _parts(problem: RoIProblem) -> tuple[Tensor, Tensor]:
    """The row, and the column, of the part whose offset each bin takes."""
    rows, cols = (
        torch.arange(bins) * parts // bins
        for bins, parts in zip(problem.bins, problem.parts, strict=True)
    )
    return rows, cols


def kinks(problem: ConvProblem) -> tuple[Tensor, Tensor]:
    """Points of a convolution that lie on an integer, and that are NaN; each [N, G*K, Ho, Wo]."""
    y, x = (p.flatten(1, 2) for p in problem.points(problem.rounded()["offset"]))
    return (y == y.round()) | (x == x.round()), y.isnan() | x.isnan()


def _compute_dtype(problem: Problem) -> torch.dtype:
    return torch.float64 if problem.operand_dtype("input") == torch.float64 else torch.float32


def _run_plain(conv: PlainConv, problem: ConvProblem, operands, grad) -> Results:
    options = problem.options().values()
    sizes = conv.sizes(operands["input"], operands["offset"], operands["weight"], *options)
    out = conv.forward(**operands, sizes=sizes)
    operands = {name: t for name, t in operands.items() if name != "bias"}
    grads = conv.backward(grad, **operands, sizes=sizes)
    return {"output": out, **{f"grad_{name}": grad for name, grad in grads.items()}}


def _in_dtypes(results: Results, problem: Problem) -> Results:
    """Each result rounded once, to the dtype in which it is returned."""
    return {
        name: value.to(problem.operand_dtype(name.removeprefix("grad_"))).double()
        for name, value in results.items()
    }


def _conv(problem: ConvProblem):
    dtype, compute = problem.operand_dtype("input"), _compute_dtype(problem)
    narrow = dtype if dtype in HALF else None
    exact, grad = problem.rounded(), problem.rounded_grad_output()
    operands = {name: None if t is None else t.to(compute) for name, t in exact.items()}
    kinds = [PlainConv(narrow)] if narrow is None else [PlainConv(narrow), GatheringConv(narrow)]
    plains = [
        _in_dtypes(_run_plain(conv, problem, operands, grad.to(compute)), problem) for conv in kinds
    ]
    return plains, conv_sizes(problem), _conv_terms(problem)


def conv_sizes(problem: ConvProblem, **changed: Tensor | None) -> Results:
    """Every result of a convolution with the absolute value of each of its terms.

    Args:
        problem: a convolution.
        changed: operands in place of the problem's own, float64 on the CPU; "grad_output" too.
    """
    exact = {**problem.rounded(), "grad_output": problem.rounded_grad_output(), **changed}
    operands = {name: t if t is None or name == "offset" else t.abs() for name, t in exact.items()}
    grad = operands.pop("grad_output")
    return _run_plain(PlainConv(absolute=True), problem, operands, grad)


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


def _pool(problem: RoIProblem):
    exact, grad = problem.rounded(), problem.rounded_grad_output()
    compute = _compute_dtype(problem)
    operands = {name: None if t is None else t.to(compute) for name, t in exact.items()}
    plain = evaluate(problem.reference, problem, operands, grad.to(compute))
    return [_in_dtypes(plain, problem)], pool_sizes(problem), _pool_terms(problem)


def pool_sizes(problem: RoIProblem, **changed: Tensor | None) -> Results:
    """Every result of a pooling with the absolute value of each of its terms, or a bound of it.

    Arguments as in `conv_sizes`.
    """
    exact = {**problem.rounded(), "grad_output": problem.rounded_grad_output(), **changed}
    operands = {
        name: t if t is None or name in ("rois", "offset") else t.abs() for name, t in exact.items()
    }
    grad = operands.pop("grad_output")
    sizes = evaluate(problem.reference, problem, operands, grad, ("input", "mask"))
    if operands["offset"] is None:
        return sizes
    # A slope is a difference of neighbours: at most twice the largest pixel around the sample.
    largest = {
        **operands,
        "input": F.max_pool2d(operands["input"], 3, 1, 1),
        "offset": operands["offset"].nan_to_num(0.0),
    }
    slopes = 2 * grad * evaluate(problem.reference, problem, largest, grad, ())["output"]
    boxes = operands["rois"]
    extent = (boxes[:, 3:] - boxes[:, 1:3]).abs() + 2  # [R, 2], x then y, in image pixels
    extent = extent * problem.scale * problem.offset_scale
    by_class = slopes.unflatten(1, (problem.classes, -1)).sum(2)  # [R, classes, ph, pw]
    both = by_class[:, :, None] * extent[:, None, :, None, None]
    size = torch.zeros_like(operands["offset"])
    regions = torch.arange(size.shape[0])[:, None, None, None]
    channels = torch.arange(size.shape[1])[:, None, None]
    rows, cols = _parts(problem)
    at = (regions, channels, rows[:, None], cols)
    size = size.index_put(at, both.flatten(1, 2), accumulate=True)
    return {**sizes, "grad_offset": size}


def expected_terms(problem: Problem) -> dict[str, int]:
    """How many terms are added up in one entry of each result, at most."""
    return _conv_terms(problem) if problem.op == "deform_conv2d" else _pool_terms(problem)


def _pool_terms(problem: RoIProblem) -> dict[str, int]:
    bins = problem.bins[0] * problem.bins[1]
    side = problem.samples or 2 + round(10 * max(problem.height, problem.width))
    return {
        "output": side**2,
        "grad_input": side**2 * bins * len(problem.regions),
        "grad_offset": side**2 * problem.channels * bins,
        "grad_mask": side**2 * problem.channels,
    }
