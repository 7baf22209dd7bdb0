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
from torch import Tensor

from suites.problems.evaluate import Results, evaluate, expected
from suites.problems.problem import ConvProblem, Problem, RoIProblem
from suites.problems.rois import undecided_bins
from suites.tolerance.magnitudes import (
    conv_magnitudes,
    parts_of_bins,
    pool_magnitudes,
    run_naive,
    term_counts,
)
from suites.tolerance.naive_conv import GatheringConv, NaiveConv

ROUNDINGS = 8
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Tolerance:
    """Allowed error of one tensor, in both norms, over the entries `counted`, or over all."""

    euclidean: float
    maximum: float
    counted: Tensor | None

    def error_ratio(self, got: Tensor, want: Tensor) -> float:
        """The share of the price that an error takes, in the worse norm; above 1 it is too much."""
        error = got.detach().cpu().double() - want
        if self.counted is not None:
            error = error[self.counted]
        if not error.isfinite().all():
            return math.inf
        return max(
            _ratio(norm(error, 2), self.euclidean), _ratio(norm(error, math.inf), self.maximum)
        )


def unit(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def norm(values: Tensor, order: float) -> float:
    """A vector norm, 0 for no values."""
    return float(torch.linalg.vector_norm(values, order)) if values.numel() else 0.0


def _ratio(error: float, allowed: float) -> float:
    if error == 0:
        return 0.0
    return error / allowed if allowed else math.inf


def rounding_tolerance(truth: Tensor, size: Tensor, terms: int, dtype: torch.dtype) -> Tolerance:
    """The price without a plain evaluation: the second and third term alone."""
    everywhere = torch.ones_like(size, dtype=torch.bool)
    tolerance = _tolerance(truth, [], size, terms, dtype, dtype, everywhere)
    return Tolerance(tolerance.euclidean, tolerance.maximum, None)


def _tolerance(truth, naive_results, size, terms, dtype, compute, counted) -> Tolerance:
    sums = unit(torch.float64 if compute == torch.float64 else torch.float32) + 2.0**-53
    sums *= ROUNDINGS + math.sqrt(terms)

    def allowed(order: float) -> float:
        plain = max(
            (norm((p.double() - truth)[counted], order) for p in naive_results), default=0.0
        )
        out = unit(dtype) * norm(truth[counted], order)
        return 2 * plain + out + sums * norm(size[counted], order)

    return Tolerance(allowed(2), allowed(math.inf), counted)


@lru_cache(maxsize=2048)
def tolerances(problem: Problem, at_kinks: bool = False) -> dict[str, Tolerance]:
    """The price of every result of a problem, by the names of `expected`.

    Args:
        problem: any.
        at_kinks: whether gradients of points on a kink are compared too.
    """
    truth = expected(problem)
    naive_results, sizes, terms = (
        _conv(problem) if problem.op == "deform_conv2d" else _pool(problem)
    )
    compute = problem.operand_dtype("input")
    return {
        name: _tolerance(
            truth[name],
            [plain[name] for plain in naive_results],
            sizes[name],
            terms[name],
            problem.operand_dtype(name.removeprefix("grad_")),
            compute,
            decided(problem, name, at_kinks) & ~truth[name].isnan(),
        )
        for name in truth
    }


def decided(
    problem: Problem, name: str, at_kinks: bool = False, offset: Tensor | None = None
) -> Tensor:
    """Entries of a result that are compared, for a convolution also with other offsets.

    Left out are gradients of points that are NaN or, unless asked for, lie on a kink (there the
    derivative is a convention, with properties of its own), and bins on whose side of a jump
    rounding decides.
    """
    everywhere = torch.ones_like(expected(problem)[name], dtype=torch.bool)
    if isinstance(problem, RoIProblem):
        return _decided_of_pool(problem, name, everywhere)
    if name not in ("grad_offset", "grad_mask"):
        return everywhere
    on_kink, is_nan = kinks(problem, offset)
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
    rows, cols = parts_of_bins(problem)
    return ~is_nan[:, :, rows[:, None], cols].any(1, keepdim=True)


def kinks(problem: ConvProblem, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Points of a convolution that lie on an integer, and that are NaN; each [N, G*K, Ho, Wo].

    Of the problem's own offsets, or of others. Infinite points lie nowhere, and have no slope.
    """
    offset = problem.rounded()["offset"] if offset is None else offset
    y, x = (p.flatten(1, 2) for p in problem.points(offset))
    on_kink = ((y == y.round()) | (x == x.round())) & y.isfinite() & x.isfinite()
    return on_kink, y.isnan() | x.isnan()


def _compute_dtype(problem: Problem) -> torch.dtype:
    return torch.float64 if problem.operand_dtype("input") == torch.float64 else torch.float32


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
    kinds = [NaiveConv(narrow)] if narrow is None else [NaiveConv(narrow), GatheringConv(narrow)]
    naive_results = [
        _in_dtypes(run_naive(conv, problem, operands, grad.to(compute)), problem) for conv in kinds
    ]
    return naive_results, conv_magnitudes(problem), term_counts(problem)


def _pool(problem: RoIProblem):
    exact, grad = problem.rounded(), problem.rounded_grad_output()
    compute = _compute_dtype(problem)
    operands = {name: None if t is None else t.to(compute) for name, t in exact.items()}
    plain = evaluate(problem.reference, problem, operands, grad.to(compute))
    return [_in_dtypes(plain, problem)], pool_magnitudes(problem), term_counts(problem)
