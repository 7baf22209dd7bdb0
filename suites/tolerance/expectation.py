# SPDX-License-Identifier: BSD-3-Clause
"""What a problem's results must be: the truth, its tolerances, and which entries are compared."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from suites.problems.evaluate import Results, evaluate
from suites.problems.problem import ConvProblem, Problem, RoIProblem
from suites.problems.pyramid import PyramidProblem
from suites.problems.rois import undecided_bins
from suites.tolerance.magnitudes import bin_parts, magnitudes, run_naive, term_counts
from suites.tolerance.naive_conv import NaiveConv
from suites.tolerance.naive_gather import GatheringConv
from suites.tolerance.tolerance import Tolerance, allowed_error

_HALF = (torch.float16, torch.bfloat16)


class Expectation:
    """The expected results of a problem; each part is computed once, when it is first used."""

    def __init__(self, problem: Problem):
        self.problem = problem

    @cached_property
    def operands(self) -> dict[str, Tensor | None]:
        """The operands' exact values, float64 on the CPU."""
        return self.problem.rounded()

    @cached_property
    def grad_output(self) -> Tensor:
        """The exact gradient of the result, float64 on the CPU."""
        return self.problem.rounded_grad_output()

    @cached_property
    def truth(self) -> Results:
        """The reference on the operands' exact values, in float64 on the CPU."""
        return evaluate(self.problem.reference, self.problem, self.operands, self.grad_output)

    @cached_property
    def tolerances(self) -> dict[str, Tolerance]:
        """The tolerance of every result; gradients of points on a kink are not compared."""
        return self._tolerances(at_kinks=False)

    @cached_property
    def tolerances_at_kinks(self) -> dict[str, Tolerance]:
        """As `tolerances`; gradients of points on a kink are compared too."""
        return self._tolerances(at_kinks=True)

    def _tolerances(self, at_kinks: bool) -> dict[str, Tolerance]:
        problem, terms = self.problem, term_counts(self.problem)
        return {
            name: allowed_error(
                truth,
                self._magnitudes[name],
                terms[name],
                problem.operand_dtype(name.removeprefix("grad_")),
                [results[name] for results in self._naive],
                self.decided(name, at_kinks) & ~truth.isnan(),
            )
            for name, truth in self.truth.items()
        }

    @cached_property
    def _magnitudes(self) -> Results:
        return magnitudes(self.problem)

    @cached_property
    def _naive(self) -> list[Results]:
        """Results of naive evaluations in the problem's own precision."""
        problem, dtype = self.problem, self.problem.operand_dtype("input")
        compute = torch.float64 if dtype == torch.float64 else torch.float32
        operands = {name: None if t is None else t.to(compute) for name, t in self.operands.items()}
        grad = self.grad_output.to(compute)
        if not isinstance(problem, ConvProblem):
            return [_rounded(evaluate(problem.reference, problem, operands, grad), problem)]
        narrow = dtype if dtype in _HALF else None
        orders = (
            [NaiveConv(narrow)] if narrow is None else [NaiveConv(narrow), GatheringConv(narrow)]
        )
        return [_rounded(run_naive(conv, problem, operands, grad), problem) for conv in orders]

    # ---- what is compared

    def decided(self, name: str, at_kinks: bool = False, offset: Tensor | None = None) -> Tensor:
        """Entries of a result that are compared, for a convolution also with other offsets.

        Left out are gradients of points that are NaN or, by default, lie on a kink (there the
        derivative is a convention, which has claims of its own), and bins in which rounding decides
        on which side of a jump a sample falls.
        """
        everywhere = torch.ones_like(self.truth[name], dtype=torch.bool)
        if isinstance(self.problem, PyramidProblem):
            return ~self.problem.undecided() if name == "output" else everywhere
        if isinstance(self.problem, RoIProblem):
            return self._decided_of_pool(name, everywhere)
        if name not in ("grad_offset", "grad_mask"):
            return everywhere
        on_kink, is_nan = kinks(self.problem, self.operands["offset"] if offset is None else offset)
        if name == "grad_mask":
            return ~is_nan
        left_out = (is_nan if at_kinks else on_kink | is_nan)[:, :, None].expand(-1, -1, 2, -1, -1)
        return ~left_out.reshape(everywhere.shape)

    def _decided_of_pool(self, name: str, everywhere: Tensor) -> Tensor:
        if name == "output":
            return ~undecided_bins(self.problem)
        offset = self.operands["offset"]
        if offset is None or name == "grad_input":
            return everywhere
        moved = offset.unflatten(1, (-1, 2))  # [R, classes, 2, parts, parts], x then y
        if self.problem.kind == "roi":  # an infinite offset times an extent of 0 is NaN
            boxes = self.operands["rois"]
            moved = moved * (boxes[:, 3:] - boxes[:, 1:3])[:, None, :, None, None]
        is_nan = moved.isnan().any(2)  # [R, classes, parts, parts]
        if name == "grad_offset":
            return ~is_nan.repeat_interleave(2, 1)
        rows, cols = bin_parts(self.problem)
        return ~is_nan[:, :, rows[:, None], cols].any(1, keepdim=True)


def kinks(problem: ConvProblem, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Points of a convolution that lie on an integer, and that are NaN; each [N, G*K, Ho, Wo].

    Infinite points are on no kink, and have no slope.
    """
    y, x = (p.flatten(1, 2) for p in problem.points(offset))
    on_kink = ((y == y.round()) | (x == x.round())) & y.isfinite() & x.isfinite()
    return on_kink, y.isnan() | x.isnan()


def _rounded(results: Results, problem: Problem) -> Results:
    """Each result rounded once, to the dtype in which it is returned."""
    return {
        name: value.to(problem.operand_dtype(name.removeprefix("grad_"))).double()
        for name, value in results.items()
    }
