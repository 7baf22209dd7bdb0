# SPDX-License-Identifier: BSD-3-Clause
"""reports/verdicts/run.py: its definition, its calls, its operands."""

import json
import re

import pytest
import torch

import reference
from suites.backends.calling_conventions import CONVENTIONS
from suites.peers.failures import RUNNER, as_data
from suites.problems.problem import ConvProblem
from suites.reporting.folders import ROOT
from suites.tolerance.expectation import Expectation


def test_runner_imports_nothing_of_this_project(tmp_path):
    names = re.findall(r"^ *(?:from|import) (\w+)", RUNNER.read_text(), flags=re.MULTILINE)
    own = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert names
    assert not own & set(names)


@pytest.mark.parametrize("offsets", ["small", "far", "nan", "infinite", "zero"])
@pytest.mark.parametrize("mask", [True, False])
def test_runner_s_definition_is_the_reference(run, offsets, mask):
    problem = ConvProblem(offsets=offsets, mask=mask, bias=mask)
    operands = {**problem.operands(), "grad_output": problem.grad_output()}
    got = run.results(run.definition, operands, problem.options())
    for name, want in Expectation(problem).truth.items():
        torch.testing.assert_close(got[name], want, rtol=0, atol=1e-12, equal_nan=True)
    sizes = {name: t.shape for name, t in operands.items() if t is not None}
    shapes = run.shapes(vars(problem))
    assert all(shapes[name] == tuple(size) for name, size in sizes.items())


def test_runner_s_definition_takes_an_empty_batch(run):
    operands = ConvProblem(batch=0).operands()
    options = ConvProblem().options()
    want = reference.deform_conv2d(**operands, **options)
    assert torch.equal(run.definition(**operands, **options), want)


@pytest.mark.parametrize("name", [n for n, c in CONVENTIONS.items() if c.op == "deform_conv2d"])
@pytest.mark.parametrize("given", [{}, {"bias": False}, {"mask": False}])
def test_runner_calls_as_the_convention_does(run, name, given):
    convention, kinds = CONVENTIONS[name], {"mask": False, "bias": False, "groups": 1}
    problem = ConvProblem(
        **{**given, **{lack: kinds[lack] for lack in convention.unsupported_args}}
    )
    arguments = {**problem.operands(), **problem.options()}
    called = convention.adapt(lambda *args: args)(**arguments)
    got = run.call(lambda *args: args, name, **arguments)
    for mine, theirs in zip(got, called, strict=True):
        assert torch.equal(mine, theirs) if torch.is_tensor(mine) else mine == theirs


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided", "expanded"])
@pytest.mark.parametrize("height", [2, 12])
def test_data_file_keeps_every_bit_of_an_operand(run, dtype, layout, height):
    problem = ConvProblem(dtype=dtype, height=height, offsets="nan", layouts=(("input", layout),))
    for operand in problem.operands().values():
        back = run.tensor(json.loads(json.dumps(as_data(operand))))
        assert (back.stride(), back.storage_offset()) == (
            operand.stride(),
            operand.storage_offset(),
        )
        assert torch.equal(back.nan_to_num(7.0), operand.nan_to_num(7.0))
        assert torch.equal(back.isnan(), operand.isnan())


@pytest.mark.parametrize("problem", [ConvProblem(), ConvProblem(groups=1, deform_groups=1)])
def test_generated_operands_are_in_one_cell_of_the_middle(run, problem):
    operands = run.clustered_operands(vars(problem), "cpu")
    grad_output = operands.pop("grad_output")
    assert {n: t.shape for n, t in operands.items()} == {
        n: t.shape for n, t in problem.operands().items()
    }
    assert grad_output.shape == problem.grad_output().shape
    y, x = problem.points(operands["offset"])
    assert set(y.floor().unique().tolist()) == {problem.height // 2}
    assert set(x.floor().unique().tolist()) == {problem.width // 2}
