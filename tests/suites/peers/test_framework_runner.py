# SPDX-License-Identifier: BSD-3-Clause
"""reports/verdicts/run_framework.py: its definition in NumPy, its checks."""

import ast
import importlib.util
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from suites.peers.failures import FRAMEWORK_RUNNER, as_data
from suites.problems.problem import ConvProblem
from suites.tolerance.expectation import Expectation

OPERANDS = ("input", "offset", "weight", "bias", "mask", "grad_output")


@pytest.fixture
def run():
    """The runner as a module."""
    spec = importlib.util.spec_from_file_location("framework_runner", FRAMEWORK_RUNNER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _operands(problem):
    tensors = {**problem.operands(), "grad_output": problem.grad_output()}
    return {name: None if t is None else t.numpy() for name, t in tensors.items()}


def test_it_imports_only_numpy_and_the_standard_library():
    tree = ast.parse(FRAMEWORK_RUNNER.read_text())
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {getattr(n, "module", None) or n.names[0].name for n in imports}
    assert {name for name in names if name not in sys.stdlib_module_names} == {"numpy"}


@pytest.mark.parametrize("offsets", ["small", "far", "nan", "infinite", "zero"])
@pytest.mark.parametrize("mask", [True, False])
def test_its_definition_is_the_reference(run, offsets, mask):
    problem = ConvProblem(offsets=offsets, mask=mask, bias=mask)
    operands = _operands(problem)
    grad_output = operands.pop("grad_output")
    got = run.definition(operands, grad_output, **problem.options())
    expectation = Expectation(problem)
    for name, want in expectation.truth.items():
        kept = expectation.decided(name).numpy()
        found, truth = got[name][kept], want.numpy()[kept]
        np.testing.assert_allclose(found, truth, rtol=0, atol=1e-12, equal_nan=True)


def _case(problem, **changes):
    operands = {**problem.operands(), "grad_output": problem.grad_output()}
    return {
        "library": "adapters.fake", "needs": "fake==1", "claim": "c", "variant": "",
        "check": "definition", "problem": vars(problem), "allowed": {"output": 1e-9},
        "compared": {}, "operands": {n: as_data(t) for n, t in operands.items()}, **changes,
    }  # fmt: skip


@pytest.fixture
def fake(run, monkeypatch):
    """A framework that is the definition, and may add to it."""
    adapter = SimpleNamespace(GRADIENTS=True, off=0.0, calls=0)

    def conv(operands, grad_output, *, stride, padding, dilation, threads, **groups):
        adapter.calls += 1
        got = run.definition(operands, grad_output, stride, padding, dilation)
        off = adapter.off(adapter.calls, threads) if callable(adapter.off) else adapter.off
        return {**got, "output": got["output"] + off}

    adapter.deform_conv2d = conv
    monkeypatch.setattr(run, "adapter_of", lambda case: adapter)
    return adapter


@pytest.mark.parametrize(("off", "shows"), [(0.0, False), (1.0, True), (float("nan"), True)])
def test_a_failure_shows_if_it_is_there(run, fake, off, shows, capsys):
    fake.off = off
    assert run.equals_definition(_case(ConvProblem())) is shows
    assert ("output" in capsys.readouterr().out) is shows


def test_a_crash_shows_without_what_the_framework_prints(run, fake, capfd):
    def crash(*arguments, **options):
        os.write(1, b"a long trace")
        raise RuntimeError("no")

    fake.deform_conv2d = crash
    assert run.equals_definition(_case(ConvProblem()))
    printed = capfd.readouterr().out
    assert "RuntimeError: no\nthe process ended with exit code 1" in printed
    assert "trace" not in printed


@pytest.mark.parametrize("check", ["runs", "threads"])
def test_bits_that_differ_show(run, fake, check):
    problem = ConvProblem(dtype="float32")
    case = json.loads(json.dumps(_case(problem, check=check)))
    assert run.CHECKS[check](case) is False
    fake.off = lambda calls, threads: threads if check == "threads" else calls
    assert run.CHECKS[check](case) is True


def test_a_missing_framework_is_not_judged(run, tmp_path, monkeypatch, capsys):
    file = tmp_path / "case.json"
    file.write_text(json.dumps(_case(ConvProblem(), check="runs")))

    def missing(case):
        raise ModuleNotFoundError("No module named 'fake'")

    monkeypatch.setattr(run, "adapter_of", missing)
    monkeypatch.setattr(sys, "argv", ["run", str(file)])
    assert run.main() == 2
    assert "pip install fake==1" in capsys.readouterr().out


def test_clustered_operands_fall_into_one_cell(run):
    problem = ConvProblem(groups=1, deform_groups=2)
    drawn = run.clustered_operands(vars(problem))
    assert {n: drawn[n].shape for n in OPERANDS} == {
        n: a.shape for n, a in _operands(problem).items()
    }
    y, x = problem.points(torch.from_numpy(drawn["offset"]).double())
    assert set(y.floor().flatten().tolist()) == {problem.height // 2}
    assert set(x.floor().flatten().tolist()) == {problem.width // 2}
