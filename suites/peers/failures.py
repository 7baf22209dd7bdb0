# SPDX-License-Identifier: BSD-3-Clause
"""Writes data files that show a failed claim without this project.

`reports/verdicts/run.py` needs only torch, the library and such a file; `run_framework.py` does the
same for a framework of another environment with NumPy in place of torch. The file has the operands
and how much of each result may be lost to rounding, or the sizes and the seed of a problem; of a
pooling it also has the right results. What it says was seen is what the runner printed when the
file was written.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from suites.backends.frameworks.backend import Framework
from suites.backends.frameworks.environments import FRAMEWORKS, outside_environment
from suites.backends.registry import Backend, Target
from suites.claims.isolation import run_isolated
from suites.claims.recorder import Case, Evaluation
from suites.problems.evaluate import Results, evaluate
from suites.problems.layouts import moved
from suites.problems.problem import ConvProblem, Problem, RoIProblem
from suites.reporting.folders import REPORTS
from suites.reporting.provenance import provenance
from suites.tolerance.expectation import Expectation
from suites.tolerance.tolerance import identity_tolerance

RUNNER = REPORTS / "verdicts" / "run.py"
FRAMEWORK_RUNNER = REPORTS / "verdicts" / "run_framework.py"
_MOST_NUMBERS = 30_000  # in a data file, 150 kB
_TIMEOUT_S = 120  # of the runner
_CHECKS = {  # the runner's checks of claims on how an operator runs, whose operands it generates
    "every run gives the same bits": "runs",
    "threads change no bit": "threads",
    "threads change no bit of any problem": "threads",
    "side stream waits for its own work": "stream",
    "graph replay equals eager": "graph",
    "input of more than 2 31 elements": "large",
}
# Products of this size are split among threads on any CPU that we know; those of smaller ones on
# some, so that a failure that was found on one machine would not show on the next.
_FOR_THREADS = ConvProblem(
    batch=1, in_channels=64, out_channels=64, height=64, width=64, kernel=(3, 3), stride=(1, 1),
    padding=(1, 1), dilation=(1, 1), groups=1, deform_groups=1,
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """One evaluation whose results differ from the definition.

    Attributes:
        operands: on the CPU, as the implementation received them, with "grad_output".
        allowed: by wrong result, its tolerance in the maximum norm.
        compared: by result, the entries that are compared.
        died: whether there were no results at all.
    """

    operands: dict[str, Tensor | None]
    allowed: dict[str, float]
    compared: Results
    died: bool = False


def find_failure(case: Case, target: Target) -> Failure | None:
    """The first evaluation of a failed claim that is wrong by itself, or None.

    If the claim recorded no evaluation (its process died, or it ran its own), only a crash counts.
    """
    problem = case.failing
    if problem is None:
        return None
    for evaluation in case.evaluations:
        failure = _check(target, problem, evaluation)
        if failure:
            return failure
    failure = None if case.evaluations else _check(target, problem, Evaluation())
    return failure if failure and failure.died else None


def _check(target: Target, problem: Problem, evaluation: Evaluation) -> Failure | None:
    is_pool = isinstance(problem, RoIProblem)
    if is_pool and {"rois", "offset"} & evaluation.changed.keys():
        return None  # which bins are compared is known of the problem's own
    own = {**problem.operands(), "grad_output": problem.grad_output()}
    changed = {n: _on(t, "cpu") for n, t in evaluation.changed.items()}
    if any(_other_size(t, own[n]) for n, t in changed.items()):
        return None  # a problem of other sizes, whose tolerance and kinks are not these
    operands = {**own, **changed}
    exact = {n: None if t is None else t.double() for n, t in operands.items()}
    grad = exact.pop("grad_output")

    want = evaluate(problem.reference, problem, exact, grad, evaluation.wanted)
    # Of an operand that the problem does not have, no tolerance of the gradient is known.
    expectation, rounded = Expectation(problem), identity_tolerance(problem, **changed)
    tolerance = expectation.tolerances
    allowed = {n: max(tolerance[n].maximum, rounded[n].maximum) for n in want if n in tolerance}
    if not getattr(target.backend, "gradients", True):
        allowed = {"output": allowed["output"]}
    moved = {} if is_pool else {"offset": exact["offset"]}
    compared = {name: expectation.decided(name, **moved) for name in allowed}

    def run() -> Results:
        there = {n: _on(t, target.device) for n, t in operands.items()}
        grad_output = there.pop("grad_output")
        got = evaluate(
            target.backend.operator(problem.op), problem, there, grad_output, evaluation.wanted
        )
        return {name: result.cpu() for name, result in got.items()}

    try:
        got = run_isolated(run, target)
    except AssertionError:
        return Failure(operands, allowed, compared, died=True)
    off = []
    for name, most in allowed.items():
        found, truth = got[name].double()[compared[name]], want[name][compared[name]]
        error = (found - truth).nan_to_num(0.0).abs()
        nans = found.isnan() != truth.isnan()
        if nans.any() or (error.numel() and error.max() > 2 * most):
            off.append(name)
    return Failure(operands, {n: allowed[n] for n in off}, compared) if off else None


def _on(operand: Tensor | None, device: str) -> Tensor | None:
    return None if operand is None else moved(operand.detach(), device)


def _other_size(changed: Tensor | None, own: Tensor | None) -> bool:
    return changed is not None and own is not None and changed.shape != own.shape


# ---- the data file


def slug(words: str) -> str:
    """Words as part of a file's name."""
    return re.sub(r"\W+", "_", words).strip("_")


def write_failures(
    cases: Mapping[str, Case], targets: Mapping[str, Target], folder: Path
) -> dict[str, Path | None]:
    """Write a data file for each failed claim whose failure the runner reproduces."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path | None] = {}
    for key, case in cases.items():
        paths[key] = _write_failure(case, targets[case.target], folder, set(paths.values()))
    backends = [targets[case.target].backend for case in cases.values()]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(paths, pool.map(_if_it_shows, paths.values(), backends), strict=True))


def _write_failure(case: Case, target: Target, folder: Path, taken: Container) -> Path | None:
    """Write what should show a failed claim, if anything can, by a name that is not taken."""
    if case.failing is None or _library(target.backend, case.failing.op) is None:
        return None
    data = _data(case, target)
    if data is None:
        return None
    words = slug(f"{target.name} {case.claim} {case.variant}")
    names = (f"{words}_{n}.json" if n > 1 else f"{words}.json" for n in count(1))
    path = next(folder / name for name in names if folder / name not in taken)
    path.write_text(as_json(data))
    return path


def _data(case: Case, target: Target) -> dict | None:
    problem = case.failing
    if case.claim in _CHECKS:
        return generated_case(case, target) if isinstance(problem, ConvProblem) else None
    if too_large(problem):
        return None
    failure = find_failure(case, target)
    if failure is None or _numbers(failure) > _MOST_NUMBERS:
        return None
    compared = {n: m for n, m in failure.compared.items() if n in failure.allowed and not m.all()}
    pooled = {} if isinstance(problem, ConvProblem) else _pool_data(problem, failure)
    return {
        **_header(case, target, problem, "values" if pooled else "definition"),
        **pooled,
        "allowed": failure.allowed,
        "compared": {name: as_data(kept) for name, kept in compared.items()},
        "operands": {name: as_data(operand) for name, operand in failure.operands.items()},
    }


def too_large(problem: Problem) -> bool:
    """Whether the input alone may be too large to evaluate once more."""
    pixels = problem.batch * problem.height * problem.width
    if isinstance(problem, ConvProblem):
        return pixels * problem.in_channels > _MOST_NUMBERS
    return pixels * problem.channels * problem.group_size**2 > _MOST_NUMBERS


def _pool_data(problem: RoIProblem, failure: Failure) -> dict:
    """What the runner, which has no definition of poolings, needs of one."""
    exact = {n: None if t is None else t.double() for n, t in failure.operands.items()}
    grads = [name.removeprefix("grad_") for name in failure.allowed if name != "output"]
    grad_output = exact.pop("grad_output")
    want = evaluate(problem.reference, problem, exact, grad_output, grads)
    return {
        "options": problem.options(),
        "expected": {name: as_data(want[name]) for name in failure.allowed},
    }


def generated_case(case: Case, target: Target) -> dict:
    """Data for a claim on how an operator runs: the runner generates the operands."""
    check, problem = _CHECKS[case.claim], case.failing
    if check == "threads":
        problem = _FOR_THREADS.but(dtype=problem.dtype)
    return _header(case, target, problem, check)


def _header(case: Case, target: Target, problem: Problem, check: str) -> dict:
    origin = provenance()
    return {
        "claim": case.claim,
        "variant": case.variant,
        "library": _library(target.backend, problem.op),
        **({"needs": target.backend.needs} if isinstance(target.backend, Framework) else {}),
        "version": case.version,
        "device": target.device,
        "seen": "",
        "seen_on": origin["gpu" if target.device == "cuda" else "cpu"],
        "check": check,
        "problem": asdict(problem),
    }


def _library(backend: Backend, op: str) -> str | None:
    """What a runner calls, if a runner can call it."""
    if isinstance(backend, Framework):
        return f"adapters.{backend.name}"
    return getattr(backend, "called_as", {}).get(op)


def _if_it_shows(path: Path | None, backend: Backend) -> Path | None:
    """A data file, with what it was seen to show; or None, and it is gone, if it shows nothing."""
    if path is None:
        return None
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(RUNNER), str(path)]
    if isinstance(backend, Framework):  # nothing of this process's environment helps it
        env = outside_environment()
        command = [str(FRAMEWORKS[backend.name].executable), str(FRAMEWORK_RUNNER), str(path)]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        path.unlink()
        return None
    seen = "; ".join(done.stdout.splitlines()).rstrip(".")
    path.write_text(as_json({**json.loads(path.read_text()), "seen": seen}))
    return path


def _numbers(failure: Failure) -> int:
    return sum(t.numel() for t in failure.operands.values() if t is not None)


def as_json(data: Mapping[str, object]) -> str:
    """A data file's text: an entry in each line, and an operand in each line."""

    def value(entry: object) -> str:
        if not isinstance(entry, dict) or not any(isinstance(v, dict) for v in entry.values()):
            return json.dumps(entry)
        lines = ",\n".join(f"    {json.dumps(n)}: {json.dumps(v)}" for n, v in entry.items())
        return f"{{\n{lines}\n  }}"

    lines = ",\n".join(f"  {json.dumps(name)}: {value(entry)}" for name, entry in data.items())
    return f"{{\n{lines}\n}}\n"


def as_data(tensor: Tensor | None) -> dict | None:
    """A tensor for a data file: its memory and, where it is not contiguous, its layout."""
    if tensor is None:
        return None
    layout: dict[str, object] = {"shape": tuple(tensor.shape)}
    if not tensor.is_contiguous() or tensor.storage_offset():
        layout |= {"stride": tensor.stride(), "storage_offset": tensor.storage_offset()}
        tensor = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
    return {"dtype": str(tensor.dtype).removeprefix("torch."), **layout, **_memory(tensor)}


def _memory(tensor: Tensor) -> dict[str, object]:
    """A contiguous tensor's values, if they are few, or else its bytes, compressed."""
    if tensor.numel() <= 64:
        values = tensor.double().flatten().tolist()
        return {"values": [v if math.isfinite(v) else str(v) for v in values]}
    raw = tensor.view(torch.uint8).numpy().tobytes()
    return {"bytes": base64.b64encode(zlib.compress(raw, 9)).decode()}
