# SPDX-License-Identifier: BSD-3-Clause
"""What an implementation does where implementations differ, from calls on a few pixels.

    python -m suites.peers.conventions paddle --out out/paddle

writes out/paddle/conventions.csv: a row for each question, with the answer in words.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from suites.backends.registry import Target, get_backend
from suites.claims.isolation import Worker, risky
from suites.problems.problem import ConvProblem
from suites.tolerance.expectation import Expectation

_PIXEL = ConvProblem(  # one point, at row 1 and column 1 of an image of 3 by 3
    batch=1, in_channels=1, out_channels=1, height=3, width=3, kernel=(1, 1), stride=(3, 3),
    padding=(0, 0), dilation=(1, 1), groups=1, deform_groups=1, bias=False, mask=False,
)  # fmt: skip
_RAMP = [[0.0, 1.0, 3.0]] * 3  # slopes 1 and 2 along x


class _Probe:
    """Asks one implementation on the CPU.

    Args:
        name: of a backend.
    """

    def __init__(self, name: str):
        self.target = Target(get_backend(name), "cpu")
        self._worker = Worker() if risky(self.target) else None
        dtypes = getattr(self.target.backend, "dtypes", ("float64", "float32"))
        self._dtype = "float64" if "float64" in dtypes else dtypes[0]

    def at(self, y: float, x: float, wanted: str = "output", image: list = _RAMP) -> float:
        """A result of the one point when it is moved to row y and column x."""
        problem = _PIXEL.but(dtype=self._dtype)
        kind = getattr(torch, self._dtype)
        operands = {
            "input": torch.tensor(image, dtype=kind).view(1, 1, 3, 3),
            "offset": torch.tensor([y, x], dtype=kind).view(1, 2, 1, 1),
            "weight": torch.ones(1, 1, 1, 1, dtype=kind),
            "bias": None,
            "mask": None,
        }
        result = self.call(problem, operands, wanted)
        return result.flatten()[-1].item()

    def call(self, problem: ConvProblem, operands: dict, wanted: str) -> Tensor:
        """The output, or the gradient of the operand `wanted`; the output's gradient is ones."""

        target = self.target  # all that a worker receives

        def run() -> Tensor:
            leaves = {n: t if t is None else t.clone() for n, t in operands.items()}
            if wanted != "output":
                leaves[wanted].requires_grad_()
            operator = target.backend.operator("deform_conv2d")
            output = operator(**leaves, **problem.options())
            if wanted == "output":
                return output.detach()
            return torch.autograd.grad(output, leaves[wanted], torch.ones_like(output))[0]

        return self._worker.call(run) if self._worker else run()

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._worker:
            self._worker.close()

    def inside(self, mask: bool = False, groups: int = 1, **changes) -> str:
        """Whether an output is right whose samples are all inside of the image."""
        sizes = {"height": 8, "width": 8, "kernel": (3, 3), "stride": (2, 2), "padding": (0, 0)}
        problem = ConvProblem(
            **{**sizes, "dilation": (1, 1), "deform_groups": 1, **changes},
            dtype=self._dtype, groups=groups, mask=mask, bias=False,
        )  # fmt: skip
        if reason := self.target.supports(problem):
            return reason
        exact = problem.rounded()
        exact["offset"] = torch.rand(exact["offset"].shape, dtype=torch.float64)
        kind = problem.operand_dtype("input")
        given = {name: t if t is None else t.to(kind) for name, t in exact.items()}
        exact = {name: t if t is None else t.double() for name, t in given.items()}
        got = self.call(problem, given, "output").double()
        want = problem.reference(**exact, **problem.options())
        return "right" if torch.allclose(got, want, rtol=1e-3, atol=1e-3) else "wrong"

    def plainest(self, **sizes) -> ConvProblem:
        """A problem without the arguments that the implementation lacks."""
        return self.target.adapt_fixed(ConvProblem(dtype=self._dtype, **sizes))


def _border(probe: _Probe) -> str:
    """Half a pixel outside of an image of ones; the definition, padded with zeros, has 0.5."""
    ones = [[1.0] * 3] * 3
    before, after = (probe.at(1, place, image=ones) for place in (-0.5, 2.5))
    return f"{before:g} before the first, {after:g} behind the last"


def _kink(probe: _Probe) -> str:
    """The derivative by x on a column where the slope changes from 1 to 2."""
    return {1.0: "left", 2.0: "right", 1.5: "mean"}.get(
        slope := probe.at(1, 1, "offset"), f"{slope:g}"
    )


def _last_column(probe: _Probe) -> str:
    """The derivative by x on the last column: 3 - 1 = 2 to the left, 0 - 3 = -3 to the right."""
    slope = probe.at(1, 2, "offset")
    return {2.0: "left", -3.0: "right", 0.0: "zero"}.get(slope, f"{slope:g}")


def _before_first(probe: _Probe) -> str:
    """The derivative by x at -1: nothing to the left, the first pixel (here 2) to the right."""
    slope = probe.at(1, -1, "offset", image=[[2.0, 1.0, 3.0]] * 3)
    return {0.0: "zero", 2.0: "right"}.get(slope, f"{slope:g}")


def _nan(probe: _Probe) -> str:
    value = probe.at(1, float("nan"))
    return "NaN" if value != value else f"{value:g}"


def _infinite(probe: _Probe) -> str:
    value = probe.at(1, float("inf"))
    return "NaN" if value != value else f"{value:g}"


def _infinite_slope(probe: _Probe) -> str:
    """The derivatives by x of points infinitely far outside."""
    inf = float("inf")
    places = [(1, inf), (1, -inf), (inf, 1), (-inf, 1), (inf, inf), (-inf, -inf), (inf, -inf)]
    slopes = [probe.at(y, x, "offset") for y, x in places]
    wrong = sum(slope != slope for slope in slopes)
    return f"NaN at {wrong} of {len(places)} points" if wrong else f"{max(map(abs, slopes)):g}"


def _half(probe: _Probe) -> str:
    """The output of a wide image in float16, compared with the suite's tolerance."""
    problem = probe.plainest(
        batch=1, in_channels=4, out_channels=2, height=3, width=300, kernel=(2, 3), groups=1,
        deform_groups=1, offsets="smooth", seed=1,
    ).but(dtype="float16")  # fmt: skip
    if reason := probe.target.supports(problem):
        return reason
    got = probe.call(problem, problem.operands(), "output")
    expectation = Expectation(problem)
    ratio = expectation.tolerances["output"].error_ratio(got, expectation.truth["output"])
    return "exact" if ratio <= 1 else "rounded to half"


def _mask(probe: _Probe) -> str:
    return "a factor" if (answer := probe.inside(mask=True)) == "right" else answer


def _empty(probe: _Probe) -> str:
    return "empty" if (answer := probe.inside(batch=0)) == "right" else answer


def _deform_groups(probe: _Probe) -> str:
    return probe.inside(in_channels=12, out_channels=6, deform_groups=3)


def _indivisible(probe: _Probe) -> str:
    return probe.inside(in_channels=12, out_channels=4, groups=2, deform_groups=3)


QUESTIONS: dict[str, Callable[[_Probe], str]] = {
    "ones, half a pixel outside": _border,
    "slope at a kink": _kink,
    "slope on the last column": _last_column,
    "slope at -1": _before_first,
    "output of a NaN offset": _nan,
    "output of an infinite offset": _infinite,
    "gradient of an infinite offset": _infinite_slope,
    "coordinates in float16": _half,
    "mask": _mask,
    "empty batch": _empty,
    "3 deform groups": _deform_groups,
    "2 groups, 3 deform groups, 4 output channels": _indivisible,
}


def answers(name: str) -> pd.DataFrame:
    """A row for each question, with the answer of an implementation."""
    probe = _Probe(name)
    gradients = getattr(probe.target.backend, "gradients", True)
    rows = []
    for question, ask in QUESTIONS.items():
        if not gradients and ("slope" in question or "gradient" in question):
            answer = "no gradients"
        else:
            answer = _answer(ask, probe)
        rows.append({"question": question, "answer": answer})
    probe.close()
    return pd.DataFrame(rows)


def _answer(ask: Callable[[_Probe], str], probe: _Probe) -> str:
    """What an implementation answers, also by an error or a crash."""
    try:
        return ask(probe)
    except AssertionError as error:
        text = re.sub(r"/(?:[\w.-]+/)+", "", str(error).splitlines()[0])  # without folders
        return "crash" if "process died" in text else f"error: {text[:80]}"


def main(words: Sequence[str] | None = None) -> None:
    """Ask one implementation, and write its answers."""
    parser = argparse.ArgumentParser(prog="python -m suites.peers.conventions", description=__doc__)
    parser.add_argument("backend")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    answers(options.backend).to_csv(options.out / "conventions.csv", index=False)


if __name__ == "__main__":
    main()
