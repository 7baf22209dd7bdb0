# SPDX-License-Identifier: BSD-3-Clause
"""The first calls of a user's operator: what it takes, whether it is an operator at all.

It is called on a plain problem in every dtype, with tensors and, if that fails, with NumPy arrays.
A dtype in which it raises is unsupported; that its result has no `grad_fn` means that it has no
gradients. Nothing here compares values.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import torch

from suites.backends.forward_only import as_tensor
from suites.backends.peers import User
from suites.claims.isolation import Worker
from suites.problems.problem import DTYPES, ConvProblem, Problem, RoIProblem

_ORDER = ("float32", "float64", "float16", "bfloat16")
_CONV = ConvProblem(
    batch=1, in_channels=2, out_channels=3, height=5, width=6, kernel=(3, 3), stride=(1, 1),
    padding=(1, 1), dilation=(1, 1), groups=1, deform_groups=1,
)  # fmt: skip
_POOL = RoIProblem(batch=1, channels=2, bins=(2, 2), scale=1.0, rois=("inside",))


def probe(backend: User, device: str, dtypes: Sequence[str] = DTYPES) -> None:
    """Call an operator for the first times, and set what it takes and supports.

    Args:
        backend: its `arrays` and `lacking` are set.
        device: where its operands are.
        dtypes: the only ones that are called.

    Raises:
        ValueError: one sentence that says why it is no operator.
    """
    problems = {dtype: _plainest(backend, device, dtype) for dtype in _ORDER if dtype in dtypes}
    reasons = [reason for reason in problems.values() if isinstance(reason, str)]
    problems = {dtype: p for dtype, p in problems.items() if isinstance(p, Problem)}
    if not problems:
        raise ValueError(
            f"supports() of {backend.name} refuses even the plainest problem: {reasons[0]}"
        )
    worker = Worker()
    try:
        answers = _answers(worker, backend, problems, device)
        working = {dtype: a for dtype, a in answers.items() if not isinstance(a, str)}
        backend.lacking = {d: a for d, a in answers.items() if isinstance(a, str)}
        dtype, first = next(iter(working.items()))  # other dtypes are left to the claims
        _check(backend, problems[dtype], first)
        if not first["gradients"]:
            backend.lacking["gradients"] = "the result has no grad_fn"
        _probe_mixed(worker, backend, problems, device)
        if backend.op == "deform_conv2d":
            _probe_integers(worker, backend, problems[dtype], device)
    finally:
        worker.close()


def _plainest(backend: User, device: str, dtype: str) -> Problem | str:
    """The plainest problem of a dtype that the user's `supports` allows, or why there is none."""
    first = _CONV if backend.op == "deform_conv2d" else _POOL
    kind = {} if first is _CONV else {"kind": backend.op.split("_")[1]}
    reason = ""
    for mask, bias in itertools.product((True, False), repeat=2):
        optional = {"mask": mask, "bias": bias} if first is _CONV else {"mask": mask}
        problem = first.but(dtype=dtype, **kind, **optional)
        try:
            why = backend.supports(problem, device)
        except Exception as error:
            raise ValueError(
                f"supports() of {backend.name} raises {type(error).__name__}: {error}"
            ) from error
        if why is None:
            return problem
        reason = reason or why
    return reason


def _answers(worker: Worker, backend: User, problems: dict[str, Problem], device: str) -> dict:
    """What a call in each dtype returned, or the sentence of what it raised."""
    first = {}
    for arrays in (False, True):
        backend.arrays = arrays
        answers = {}
        for dtype, problem in problems.items():
            try:
                answers[dtype] = worker.call(_first_call, backend, problem, device)
            except AssertionError as error:
                answers[dtype] = str(error).splitlines()[0]
        if any(not isinstance(answer, str) for answer in answers.values()):
            return answers
        first = first or answers
    dtype, problem = next(iter(problems.items()))
    raise ValueError(
        f"{backend.name} raises on its first call ({_in_words(problem)}): {first[dtype]}"
    )


def _first_call(backend: User, problem: Problem, device: str, **options) -> dict:
    """Runs in the worker: what a call returned."""
    operands = problem.operands(device)
    for name in problem.differentiable:
        if operands[name] is not None:
            operands[name].requires_grad_()
    operator = backend.convention.adapt(backend.function)
    out = operator(**operands, **{**problem.options(), **options})
    out = as_tensor(out, torch.device(device))
    if not isinstance(out, torch.Tensor):
        return {"type": type(out).__name__}
    return {
        "type": "",
        "shape": tuple(out.shape),
        "dtype": str(out.dtype).removeprefix("torch."),
        "gradients": out.requires_grad,
    }


def _check(backend: User, problem: Problem, answer: dict) -> None:
    """Raise unless a result is a tensor of the right shape and dtype."""
    if answer["type"]:
        raise ValueError(f"{backend.name} returns an object of {answer['type']}, not a tensor")
    found, wanted = answer["shape"], tuple(problem.output_shape())
    if (found, answer["dtype"]) != (wanted, problem.dtype):
        raise ValueError(
            f"{backend.name} returns {list(found)} {answer['dtype']}, "
            f"wanted {list(wanted)} {problem.dtype} (for {_in_words(problem)})"
        )


def _probe_mixed(worker: Worker, backend: User, problems: dict[str, Problem], device: str) -> None:
    """Find out whether offsets and masks may be float32 where the input is of a half type."""
    for dtype in ("float16", "bfloat16"):
        if dtype in problems and dtype not in backend.lacking:
            names = [n for n in ("offset", "mask") if problems[dtype].operands()[n] is not None]
            mixed = problems[dtype].but(dtypes=tuple((name, "float32") for name in names))
            try:
                worker.call(_first_call, backend, mixed, device)
            except AssertionError as error:
                backend.lacking["mixed dtypes"] = str(error).splitlines()[0]


def _probe_integers(worker: Worker, backend: User, problem: Problem, device: str) -> None:
    """Find out whether stride, padding and dilation may be integers."""
    integers = {name: pair[0] for name, pair in problem.options().items()}
    try:
        worker.call(partial(_first_call, backend, problem, device, **integers))
    except AssertionError as error:
        backend.lacking["integers"] = str(error).splitlines()[0]


def _in_words(problem: Problem) -> str:
    """The shapes of a call."""
    shapes = [f"{n} {list(t.shape)}" for n, t in problem.operands().items() if t is not None]
    return f"{', '.join(shapes)}, {problem.dtype}"
