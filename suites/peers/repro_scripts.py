# SPDX-License-Identifier: BSD-3-Clause
"""Scripts that show a failed claim about a convolution with nothing but torch and its package.

A script holds the operands, this project's definition (the source of `reference/`), and what may be
lost to rounding. It runs the implementation in a process of its own and ends with exit code 0 if
the failure is there. What it says was seen is what it printed when it was written.
"""

from __future__ import annotations

import base64
import inspect
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from reference import bilinear, deform_conv
from suites.backends.registry import Target
from suites.claims.claim import identity_tolerance
from suites.claims.isolation import run_isolated
from suites.claims.recorder import Case, Evaluation
from suites.problems.evaluate import Results, evaluate
from suites.problems.layouts import moved
from suites.problems.problem import ConvProblem
from suites.tolerance.tolerance import decided, tolerances

_MOST_NUMBERS = 50_000  # in a script
_TIMEOUT_S = 120  # of a script
_TEMPLATES = Path(__file__).with_name("templates")
_DRAWN = {  # claims on how an operator runs, and the templates of their scripts
    "every run gives the same bits": "repetition",
    "threads change no bit": "threads",
    "threads change no bit of any problem": "threads",
    "side stream waits for its own work": "side_stream",
    "graph replay equals eager": "graph_replay",
    "input of more than 2 31 elements": "large_input",
}


@dataclass(frozen=True)
class Failure:
    """One evaluation whose results are not the definition's.

    Attributes:
        operands: on the CPU, as the implementation received them, "grad_output" among them.
        allowed: by result that is off, how much it may be, in the maximum norm.
        compared: by result, which entries count.
        died: whether there were no results at all.
    """

    operands: dict[str, Tensor | None]
    allowed: dict[str, float]
    compared: Results
    died: bool = False


def find_failure(case: Case, target: Target) -> Failure | None:
    """A failed claim's first evaluation that is off by itself, in what it asked for, or None.

    Of a claim that noted none, as its process died or it made its own, a crash alone is taken.
    """
    problem = case.failing
    if not isinstance(problem, ConvProblem):
        return None
    for evaluation in case.evaluations:
        failure = _check(target, problem, evaluation)
        if failure:
            return failure
    failure = None if case.evaluations else _check(target, problem, Evaluation())
    return failure if failure and failure.died else None


def _check(target: Target, problem: ConvProblem, evaluation: Evaluation) -> Failure | None:
    own = {**problem.operands(), "grad_output": problem.grad_output()}
    changed = {n: _on(t, "cpu") for n, t in evaluation.changed.items()}
    if any(_other_size(t, own[n]) for n, t in changed.items()):
        return None  # a problem of other sizes, whose price and kinks are not these
    operands = {**own, **changed}
    exact = {n: None if t is None else t.double() for n, t in operands.items()}
    grad = exact.pop("grad_output")

    def expect() -> tuple[Results, dict[str, float], Results]:
        want = evaluate(problem.reference, problem, exact, grad, evaluation.wanted)
        # Of an operand that the problem has not, nothing says what its gradient may be off.
        tolerance, rounded = tolerances(problem), identity_tolerance(problem, **changed)
        allowed = {n: max(tolerance[n].maximum, rounded[n].maximum) for n in want if n in tolerance}
        return want, allowed, {n: decided(problem, n, offset=exact["offset"]) for n in allowed}

    # Apart, too: autograd's engine looks for GPUs, and no process forked later could use one.
    want, allowed, compared = run_isolated(expect, target)

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


# ---- the script


def slug(words: str) -> str:
    """Words as part of a file's name."""
    return re.sub(r"\W+", "_", words).strip("_")


def write_scripts(
    cases: Mapping[str, Case], targets: Mapping[str, Target], folder: Path
) -> dict[str, Path | None]:
    """Write a script for each failed claim that one shows: all are run first, as many as cores."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path | None] = {}
    for key, case in cases.items():  # one after the other: they may fork
        paths[key] = _write_script(case, targets[case.target], folder, set(paths.values()))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(paths, pool.map(_if_it_shows, paths.values()), strict=True))


def _write_script(case: Case, target: Target, folder: Path, taken: Container) -> Path | None:
    """Write what should show a failed claim, if anything can, by a name that is not taken."""
    if not isinstance(case.failing, ConvProblem) or not hasattr(target.backend, "calling"):
        return None
    text = _text(case, target)
    if text is None:
        return None
    words = slug(f"{target.name} {case.claim} {case.variant}")
    names = (f"{words}_{n}.py" if n > 1 else f"{words}.py" for n in count(1))
    path = next(folder / name for name in names if folder / name not in taken)
    path.write_text(text)
    return path


def _text(case: Case, target: Target) -> str | None:
    if case.claim in _DRAWN:
        return drawn_script(case, target)
    problem = case.failing  # whose input alone may be too large to evaluate once more
    if problem.batch * problem.in_channels * problem.height * problem.width > _MOST_NUMBERS:
        return None
    failure = find_failure(case, target)
    if failure is None or _numbers(failure) > _MOST_NUMBERS:
        return None
    return script(case, target, failure)


def _if_it_shows(path: Path | None) -> Path | None:
    """A script, with what it was seen to show; or None, and it is gone, if it shows nothing."""
    if path is None:
        return None
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, path]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        path.unlink()
        return None
    seen = "; ".join(done.stdout.split("\n")[:-1])
    path.write_text(path.read_text().replace("<<seen>>", seen.rstrip(".")))
    return path


def _numbers(failure: Failure) -> int:
    return sum(t.numel() for t in failure.operands.values() if t is not None)


def drawn_script(case: Case, target: Target) -> str:
    """Text of a script for a claim on how an operator runs, which draws tensors of its own."""
    problem, (imports, call) = case.failing, target.backend.calling
    per_group = problem.in_channels // problem.groups
    text = _template(_DRAWN[case.claim])
    if "\n----\n" in text:  # a part alone, of a script that such claims share
        about, main = text.split("\n----\n")
        text = _template("drawn").replace("<<about>>", about).replace("<<main>>", main.strip())
    values = {
        "claim": _claim(case, target),
        "problem": repr(problem),
        "imports": imports,
        "device": target.device,
        "dtype": problem.dtype,
        "input": (problem.batch, problem.in_channels, problem.height, problem.width),
        "weight": (problem.out_channels, per_group, *problem.kernel),
        "deform_groups": problem.deform_groups,
        "out_height": problem.out_size[0],
        "out_width": problem.out_size[1],
        **problem.options(),
        "seed": problem.seed,
        "call": call,
    }
    return _filled(text, values)


def _claim(case: Case, target: Target) -> str:
    variant = f" [{case.variant}]" if case.variant else ""
    return f"{target.name}: '{case.claim}'{variant} does not hold."


def _template(name: str) -> str:
    return (_TEMPLATES / f"{name}.txt").read_text()


def _filled(text: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        text = text.replace(f"<<{name}>>", str(value))
    return text


def script(case: Case, target: Target, failure: Failure) -> str:
    """Text of the script."""
    problem, (imports, call) = case.failing, target.backend.calling
    compared = {n: m for n, m in failure.compared.items() if n in failure.allowed and not m.all()}
    values = {
        "claim": _claim(case, target),
        "problem": repr(problem),
        "imports": imports,
        "definition": _source(bilinear) + "\n\n" + _source(deform_conv),
        "moved": inspect.getsource(moved).strip(),
        "device": target.device,
        "options": repr(problem.options()),
        "operands": "\n".join(f"    {n!r}: {_packed(t)}," for n, t in failure.operands.items()),
        "allowed": repr(failure.allowed),
        "compared": "\n".join(f"    {n!r}: {_packed(m)}," for n, m in compared.items()),
        "call": call,
    }
    return _filled(_template("definition"), values)


def _packed(tensor: Tensor | None) -> str:
    """A tensor as an expression, which gives it its layout too."""
    if tensor is None:
        return "None"
    if tensor.is_contiguous() and not tensor.storage_offset():
        return _packed_values(tensor)
    memory = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
    place = f"{tuple(tensor.shape)}, {tensor.stride()}, {tensor.storage_offset()}"
    return f"{_packed_values(memory)}.as_strided({place})"


def _packed_values(tensor: Tensor) -> str:
    """A contiguous tensor as numbers, if they are few, or else as its bytes, compressed."""
    kind, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    if tensor.numel() <= 64:
        numbers = ", ".join(f'float("{v}")' if v != v or abs(v) == float("inf") else repr(v)
                            for v in tensor.flatten().tolist())  # fmt: skip
        return f"numbers({kind!r}, {shape}, [{numbers}])"
    raw = tensor.view(torch.uint8).numpy().tobytes()
    return f'unpacked({kind!r}, {shape}, "{base64.b64encode(zlib.compress(raw, 9)).decode()}")'


def _source(module) -> str:
    """A module's source without its comment on top, its docstring, and what it imports."""
    text = inspect.getsource(module)
    text = text.split('"""', 2)[2]
    return re.sub(r"^(from|import) .*\n", "", text, flags=re.MULTILINE).strip()
