# SPDX-License-Identifier: BSD-3-Clause
"""Errors name the wrong operand, the expected and the actual value, before any kernel runs."""

import re

import pytest
import torch
from wrong_operands import CASES, NMS, OPERANDS, call, call_directly, ids

from dcnv2.ops import checks, deform_conv2d, library, operand_limits
from suites.mutants.patches import ROOT


@pytest.mark.parametrize(("op", "changes", "error", "message"), CASES, ids=ids(CASES))
def test_a_wrong_operand_is_named(op, changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(op, **changes)


def _reaches_the_library(op, changes):
    """Whether a direct call can pass the arguments, and the library rather than Python checks them.

    Batch indices are contents, which the library does not check; an operand on the meta device is
    dispatched to the checks of Python.
    """
    if not changes.keys() <= OPERANDS[op].keys():  # an argument of the Python function only
        return False
    name, value = next(iter(changes.items()))
    right = OPERANDS[op][name]
    if name in ("inputs", "levels", "spatial_scales"):
        given = value if isinstance(value, list) else [value]
        kind = float if name == "spatial_scales" else torch.Tensor
        on_cpu = all(isinstance(v, kind) and getattr(v, "is_cpu", True) for v in given)
        contents = name == "levels" and on_cpu and value.shape == right.shape
        contents = contents and value.dtype == right.dtype
        return isinstance(value, type(right)) and on_cpu and not contents
    if isinstance(right, torch.Tensor):
        contents = name == "rois" and getattr(value, "shape", None) == right.shape
        contents = contents and value.dtype == right.dtype
        return isinstance(value, torch.Tensor) and value.device.type == "cpu" and not contents
    kinds = {tuple: (tuple,), int: (int,), float: (int, float)}[type(right)]
    halves = value if isinstance(value, tuple) else ()
    return isinstance(value, kinds) and all(isinstance(half, int) for half in halves)


DIRECT = [case for case in CASES if _reaches_the_library(*case[:2])]


@pytest.mark.skipif(not library.LIBRARIES["cpu"].loaded, reason="the CPU library is not loaded")
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("op", "changes", "_error", "message"), DIRECT, ids=ids(DIRECT))
def test_the_compiled_library_refuses_the_same_operand(op, changes, _error, message, backward):
    if backward and ("bias" in changes or op == NMS):
        pytest.skip("no backward takes it")
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"dcnv2::{op}", "CPU"):
        pytest.skip("the CPU library was built before this operator: build it again")
    with pytest.raises(ValueError, match=r"\w") as caught:
        call_directly(op, backward, **changes)
    with pytest.raises((TypeError, ValueError)) as by_python:
        call(op, **changes)
    named = str(by_python.value).split()[0]
    said = str(caught.value)
    assert said.startswith(named)
    assert "checks.h" not in said
    assert "\n" not in said


@pytest.mark.parametrize("op", OPERANDS)
def test_right_operands_pass(op):
    call(op)
    call_directly(op)
    if op != NMS:
        call_directly(op, backward=True)


def test_both_layers_have_the_same_limits():
    header = (ROOT / "csrc" / "operand_limits.h").read_text()
    found = re.findall(r'Limit<\w+> k\w+\{"(\w+)",\s*([-\d.e+]+),\s*([-\d.e+]+)\}', header)
    assert len(found) == header.count("constexpr Limit<")
    assert {
        name: (float(least), float(most)) for name, least, most in found
    } == operand_limits.LIMITS


def test_checks_hold_for_fake_tensors_and_ask_for_no_values():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        with pytest.raises(ValueError, match="offset must be"):
            call("deform_conv2d", offset=torch.zeros(3, 24, 5, 6))
        out = call("deform_roi_pool", rois=torch.full((2, 5), 9.0))
        assert out.shape == (2, 6, 3, 4)


def test_output_size_is_conv2ds():
    for height in range(1, 9):
        for kernel, stride, padding, dilation in ((3, 2, 1, 1), (2, 3, 0, 2), (1, 1, 2, 5)):
            size = checks.output_size(
                (height, 20), (kernel, 4), (stride, 1), (padding, 0), (dilation, 2)
            )
            if size[0] < 1:
                continue
            out = torch.nn.functional.conv2d(
                torch.zeros(1, 1, height, 20), torch.zeros(1, 1, kernel, 4), None,
                (stride, 1), (padding, 0), (dilation, 2),
            )  # fmt: skip
            assert out.shape[2:] == size


def test_operands_that_passed_are_not_checked_again(monkeypatch):
    checked = []
    check = checks._check_deform_conv2d
    monkeypatch.setattr(checks, "_passed", set())
    monkeypatch.setattr(checks, "_MOST_PASSED", 2)
    monkeypatch.setattr(
        checks, "_check_deform_conv2d", lambda *given: checked.append(given) or check(*given)
    )
    for _ in range(3):
        call("deform_conv2d")
    assert len(checked) == 1
    for _ in range(2):  # what was refused is refused again
        with pytest.raises(TypeError, match="dtype"):
            call("deform_conv2d", bias=OPERANDS["deform_conv2d"]["bias"].double())
    for size in (3, 4, 5):
        input, offset = torch.zeros(1, 2, size, size), torch.zeros(1, 18, size, size)
        deform_conv2d(input, offset, torch.zeros(2, 2, 3, 3), padding=1)
        assert len(checks._passed) <= 2  # however many sizes there are
