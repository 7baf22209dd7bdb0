# SPDX-License-Identifier: BSD-3-Clause
"""The tolerance: how far rounding may take a correct implementation from the truth.

An error may be at most, in the Euclidean and in the maximum norm,

    2 |naive - truth|  +  u_out |truth|  +  (8 + sqrt(n)) u_sum |magnitude|

- `naive` is a naive evaluation in the same precision: operands in their dtype, coordinates, weights
  and sums in float32 (float64 for float64), each factor of a product rounded once to the operands'
  dtype as a matrix unit requires, the result rounded once. Of two orders of work (multiply then
  scatter, gather then multiply) the worse one counts.
- u_out |truth| is one rounding of the result; u is half the spacing of numbers at 1.
- The last term is what float32 sums may lose however lucky the naive evaluation was. `magnitude` is
  the result with the absolute value of every term, n the number of terms added up; eight roundings
  befall a term before it is added, and rounding errors of a sum grow as sqrt(n) (Higham and Mary,
  A new approach to probabilistic rounding error analysis, 2019). It matters only in float32 and
  float64, where bugs are many orders larger; the truth's own float64 rounding is counted with it.

None of these constants was fitted to an implementation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from suites.problems.problem import Problem
from suites.tolerance.magnitudes import magnitudes, term_counts

ROUNDINGS = 8


@dataclass(frozen=True)
class Tolerance:
    """Allowed error of one tensor, in both norms, over the entries `compared`, or over all."""

    euclidean: float
    maximum: float
    compared: Tensor | None = None

    def error_ratio(self, got: Tensor, want: Tensor) -> float:
        """The error divided by the allowed one, in the worse norm; above 1 it is too large."""
        error = got.detach().cpu().double() - want
        if self.compared is not None:
            error = error[self.compared]
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


def allowed_error(
    truth: Tensor,
    magnitude: Tensor,
    terms: int,
    dtype: torch.dtype,
    naive: Sequence[Tensor] = (),
    compared: Tensor | None = None,
) -> Tolerance:
    """The tolerance of one result, by the formula above.

    Args:
        truth: the exact result, float64.
        magnitude: the result with the absolute value of each of its terms.
        terms: how many are added up in one entry.
        dtype: in which the result is returned.
        naive: results of naive evaluations; without any, their term is 0.
        compared: entries that count; all of them by default.
    """
    compared = torch.ones_like(truth, dtype=torch.bool) if compared is None else compared
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    sums = (ROUNDINGS + math.sqrt(terms)) * (unit(compute) + unit(torch.float64))

    def allowed(order: float) -> float:
        errors = (norm((result.double() - truth)[compared], order) for result in naive)
        out = unit(dtype) * norm(truth[compared], order)
        return 2 * max(errors, default=0.0) + out + sums * norm(magnitude[compared], order)

    return Tolerance(allowed(2), allowed(math.inf), compared)


def identity_tolerance(
    problem: Problem, factor: float = 2, **changed: Tensor | None
) -> dict[str, Tolerance]:
    """How far both sides of an identity may differ by rounding, for float64 and float32.

    It follows from the magnitudes of what is added up, so it does not depend on the reference.

    Args:
        problem: its operands have the magnitudes.
        factor: how many evaluations of such magnitudes the identity compares.
        changed: operands that replace the problem's own.
    """
    changed = {k: v if v is None else v.detach().cpu().double() for k, v in changed.items()}
    terms, dtype = term_counts(problem), problem.operand_dtype("input")
    tolerances = {}
    for name, magnitude in magnitudes(problem, **changed).items():
        one = allowed_error(magnitude, magnitude, terms[name], dtype)
        tolerances[name] = Tolerance(factor * one.euclidean, factor * one.maximum)
    return tolerances
