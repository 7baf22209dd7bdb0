# SPDX-License-Identifier: BSD-3-Clause
"""A failure as a script that needs only torch and the implementation.

The smallest failing problem has few numbers, so the script has them all: operands as the
implementation received them, and what the float64 reference makes of them.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from suites.backends.calling_conventions import CONVENTIONS
from suites.backends.registry import Target
from suites.claims.recorder import Case
from suites.peers.failures import Failure, find_failure, too_large
from suites.problems.evaluate import evaluate

MARK = "# Written by dcnv2 verify."
_MOST_NUMBERS = 50_000
_MOST_LISTED = 200  # numbers of one tensor; longer ones are compressed
_DIGITS = {torch.float64: 17, torch.float32: 9, torch.float16: 5, torch.bfloat16: 4}
_TEXT = '''\
{mark}
"""{name} fails "{claim}" on {device}: {message}

Run it in the folder of {module}, if that is not installed. It prints how far each result is from
the float64 reference, and how far rounding may take it; the exit code is 1 if one is too far.
"""

import base64
import sys
import zlib
from math import inf, nan

import torch

sys.path.insert(0, "")  # the working directory
from {module} import {imported}


def tensor(dtype, shape, values, stride=None, start=0):
    """A tensor from numbers, or from its compressed bytes; a stride if it is not contiguous."""
    if isinstance(values, str):
        raw = bytearray(zlib.decompress(base64.b64decode(values)))
        flat = torch.frombuffer(raw, dtype=torch.uint8).view(dtype)
    else:
        flat = torch.tensor(values, dtype=torch.float64).to(dtype)
    placed = flat.to("{device}")
    return placed.as_strided(shape, stride, start) if stride else placed.view(shape)


{operands}

# What the float64 reference returns, and the largest error that rounding explains.
expected = {{
{expected}
}}
allowed = {{
{allowed}
}}
# Entries that are compared; a derivative at a kink is a convention, and is not.
compared = {{{compared}}}

{call}

wrong = False
for name, want in expected.items():
    got = results[name].detach().cpu().double()
    keep = compared[name] if name in compared else torch.ones_like(want, dtype=torch.bool)
    error = (got - want.cpu())[keep.cpu()]
    same = got[keep.cpu()].isnan() == want.cpu()[keep.cpu()].isnan()
    worst = error.nan_to_num(0.0, inf, inf).abs().max().item()
    print(f"{{name}}: off by {{worst:.3g}}, allowed {{allowed[name]:.3g}}")
    if not same.all():
        print(f"{{name}}: NaN in other elements than in the reference: {{int((~same).sum())}}")
    wrong |= worst > allowed[name] or not same.all()
sys.exit(int(wrong))
'''


def script(case: Case, target: Target) -> str | None:
    """The script of a failed claim, or None if no single call shows the failure.

    That is so for claims that compare two calls, each of which is right within its tolerance, and
    for problems with too many numbers.
    """
    problem = case.failing
    spec = getattr(target.backend, "called_as", {}).get(problem.op) if problem else None
    if problem is None or spec is None or too_large(problem):
        return None
    failure = find_failure(case, target)
    numbers = sum(t.numel() for t in failure.operands.values() if t is not None) if failure else 0
    if failure is None or numbers > _MOST_NUMBERS:
        return None
    return _text(case, target, failure, spec)


def _text(case: Case, target: Target, failure: Failure, spec: str) -> str:
    place, _, convention = spec.partition("@")
    module, _, function = place.partition(":")
    operands = dict(failure.operands)
    names = list(failure.allowed)
    exact = {n: None if t is None else t.double() for n, t in operands.items()}
    grads = [name.removeprefix("grad_") for name in names if name != "output"]
    grad_output = exact.pop("grad_output")
    want = evaluate(case.failing.reference, case.failing, exact, grad_output, grads)
    claim = f"{case.claim} [{case.variant}]" if case.variant else case.claim
    return _TEXT.format(
        mark=MARK,
        name=place,
        claim=claim,
        device=target.device,
        message=first_line(case.message).replace("\\", "/").replace('"', "'"),
        module=module,
        imported=function.partition(".")[0],
        operands="\n".join(f"{n} = {_written(t)}" for n, t in operands.items() if t is not None),
        expected="\n".join(f'    "{name}": {_written(want[name])},' for name in names),
        allowed="\n".join(f'    "{name}": {failure.allowed[name]!r},' for name in names),
        compared=", ".join(
            f'"{name}": {_written(kept)}'
            for name, kept in failure.compared.items()
            if name in names and not kept.all()
        ),
        call=_call(function, CONVENTIONS[convention].adapt, case, target, operands, grads),
    )


def _call(
    function: str, adapt: Callable, case: Case, target: Target, operands: dict, grads: list[str]
) -> str:
    """The lines that call the implementation, with the very arguments of its convention."""
    given: list = []
    tensors = {n: t for n, t in operands.items() if n != "grad_output"}
    adapt(lambda *arguments: given.extend(arguments))(**tensors, **case.failing.options())

    def word(value: object) -> str:
        if not isinstance(value, Tensor):
            return repr(value)
        name = next((n for n, t in tensors.items() if t is value), None) or _written(value)
        return f"{name}.cpu().numpy()" if getattr(target.backend, "arrays", False) else name

    call = f"{function}({', '.join(map(word, given))})"
    if not getattr(target.backend, "gradients", True):
        return f'results = {{"output": torch.as_tensor({call})}}'
    lines = [f"{name}.requires_grad_()" for name in grads]
    lines += [f"output = {call}", 'results = {"output": output}']
    lines += [
        f'results["grad_{n}"] = torch.autograd.grad(output, {n}, grad_output, retain_graph=True)[0]'
        for n in grads
    ]
    return "\n".join(lines)


def _written(tensor: Tensor) -> str:
    """A tensor as a call of the script's `tensor`."""
    dtype, shape = tensor.dtype, list(tensor.shape)
    laid_out = ""
    if not tensor.is_contiguous() or tensor.storage_offset():
        laid_out = f", {tuple(tensor.stride())}, {tensor.storage_offset()}"
        tensor = torch.empty(0, dtype=dtype).set_(tensor.untyped_storage())
    if tensor.numel() <= _MOST_LISTED:
        digits = _DIGITS.get(dtype, 1)
        numbers = (f"{value:.{digits}g}" for value in tensor.double().flatten().tolist())
        values = f"[{', '.join(numbers)}]"
    else:
        raw = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        values = f'"{base64.b64encode(zlib.compress(raw, 9)).decode()}"'
    return f"tensor({dtype}, {shape}, {values}{laid_out})"


def first_line(message: str) -> str:
    """The first line of an assertion's message."""
    return message.splitlines()[0].strip() if message.strip() else "no message"
