# SPDX-License-Identifier: BSD-3-Clause
"""Frameworks of other environments: messages, processes, adapters and the backend."""

import ast
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import suites
from suites.backends.frameworks import adapters, arrays, backend, environments, process, serve
from suites.backends.registry import get_backend
from suites.claims import isolation
from suites.claims.session import CheckedTarget, Session
from suites.problems.evaluate import NoGradientsError, OutputOnly, run
from suites.problems.problem import ConvProblem, RoIProblem

SMALL = ConvProblem(
    batch=1, in_channels=1, out_channels=1, height=2, width=3, kernel=(1, 1), stride=(1, 1),
    padding=(0, 0), dilation=(1, 1), groups=1, deform_groups=1, dtype="float32",
)  # fmt: skip
# A framework whose "convolution" doubles its input, prints, and dies of a weight of 13.
DOUBLING = """#!{python}
import os
from types import SimpleNamespace
from suites.backends.frameworks import serve

def deform_conv2d(operands, grad_output, *, threads, **options):
    print("hello", flush=True)
    if operands["weight"].flat[0] == 13:
        os._exit(3)
    if operands["weight"].flat[0] == 14:
        raise ValueError("no fourteens")
    results = {{"output": 2 * operands["input"]}}
    if grad_output is not None:
        results["grad_input"] = 2 * grad_output
    return results

import sys
serve_answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
serve.answer(SimpleNamespace(deform_conv2d=deform_conv2d), sys.stdin.buffer, serve_answers)
"""


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="f8").reshape(2, 3),
        np.arange(24, dtype="f4").reshape(2, 3, 4)[:, ::2].transpose(2, 0, 1),
        np.broadcast_to(np.float16([1, 2, 3]), (4, 3)),
        np.zeros((0, 3)),
        np.array([True, False]),
    ],
    ids=["contiguous", "strided", "expanded", "empty", "bool"],
)
def test_an_array_arrives_with_its_strides(array):
    file = io.BytesIO()
    arrays.send(file, {"words": [1, "two"]}, {"a": array, "none": None})
    file.seek(0)
    words, got = arrays.receive(file)
    assert words == {"words": [1, "two"]}
    assert got["none"] is None
    assert got["a"].dtype == array.dtype
    assert got["a"].strides == array.strides
    np.testing.assert_array_equal(got["a"], array)


def test_a_closed_pipe_is_the_end():
    with pytest.raises(EOFError):
        arrays.receive(io.BytesIO(b"123"))


def test_an_adapter_gets_the_groups_of_the_shapes():
    problem = ConvProblem(dtype="float32")
    given = {n: t.numpy() for n, t in problem.operands().items()}
    called = {}
    adapter = SimpleNamespace(deform_conv2d=lambda *a, **options: called.update(options))
    serve.call(adapter, given, [2, 1], [1, 0], [1, 2], 3)
    assert called == {
        "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": problem.groups,
        "deform_groups": problem.deform_groups, "threads": 3,
    }  # fmt: skip


@pytest.fixture
def doubling(tmp_path, monkeypatch):
    """A framework named ncnn that is not ncnn, with gradients."""
    script = tmp_path / "python"
    script.write_text(DOUBLING.format(python=sys.executable))
    script.chmod(0o755)
    fake = SimpleNamespace(executable=script, built=True)
    monkeypatch.setitem(environments.FRAMEWORKS, "ncnn", fake)
    made = backend.Framework("ncnn")
    yield made
    made._process.close()


def test_a_process_answers_fails_and_is_replaced_after_it_died(doubling):
    operands = {n: None if t is None else t.numpy() for n, t in SMALL.operands().items()}
    window = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "threads": 1}
    there = process.Process("ncnn")
    for weight, message in ((14, "ValueError: no fourteens"), (13, "died with exit code 3")):
        bad = {**operands, "weight": np.full((1, 1, 1, 1), weight, "f4")}
        with pytest.raises(AssertionError, match=message):
            there.call(window, bad)
        got = there.call(window, operands)
        np.testing.assert_array_equal(got["output"], 2 * operands["input"])
    there.close()


def test_gradients_of_a_framework_are_its_own(doubling):
    doubling.gradients = True
    got = run(doubling.operator("deform_conv2d"), SMALL, wanted=("input",))
    assert torch.equal(got["output"], 2 * SMALL.operands()["input"])
    assert torch.equal(got["grad_input"], 2 * SMALL.grad_output())


def test_a_framework_without_gradients_has_only_an_output(doubling):
    got = run(doubling.operator("deform_conv2d"), SMALL)
    assert isinstance(got, OutputOnly)
    assert list(got) == ["output"]


def test_what_a_framework_lacks_is_unsupported(doubling):
    assert doubling.supports(SMALL, "cpu") is None
    assert doubling.supports(SMALL, "cuda") == "only on the CPU"
    assert doubling.supports(SMALL.but(dtype="float16"), "cpu") == "no float16"
    assert doubling.supports(SMALL.but(deform_groups=1, batch=0), "cpu") == "no empty batch"
    assert doubling.supports(RoIProblem(), "cpu") == "no deform_roi_pool"
    assert doubling.lacking.keys() == {"gradients", "integers", "tensors"}
    assert doubling.adapt(SMALL.but(layouts=(("input", "strided"),))) == SMALL


def test_missing_gradients_are_unsupported_without_a_worker(doubling):
    target = CheckedTarget(doubling, "cpu", Session())

    def check():
        raise NoGradientsError

    with pytest.raises(pytest.skip.Exception, match="unsupported: no gradients"):
        isolation.check_isolated(check, target)
    assert target.session.recorder.current.unsupported == {"no gradients": 1}


@pytest.mark.parametrize(
    ("module", "claim", "mark"),
    [
        ("conv_identities", "layout_of_an_operand_changes_nothing", "tensors"),
        ("conv_gradients", "chain_rule_through_a_module", "tensors"),
        ("conv_gradients", "gradients_accumulate_over_steps", "tensors"),
        ("execution", "garbage_in_new_memory_is_never_read", "tensors"),
        ("execution", "threads_change_no_bit", "threads"),
    ],
)
def test_claims_that_frameworks_cannot_answer_are_marked(module, claim, mark):
    text = (Path(suites.__path__[0]) / "correctness" / f"test_{module}.py").read_text()
    defined = {node.name: node for node in ast.parse(text).body if hasattr(node, "name")}
    marks = [ast.unparse(decorator) for decorator in defined[f"test_{claim}"].decorator_list]
    assert f"pytest.mark.{mark}" in marks


@pytest.mark.parametrize("name", environments.FRAMEWORKS)
def test_an_adapter_is_complete_and_needs_only_numpy(name):
    adapter = environments.adapter_of(name)
    assert all("==" in requirement for requirement in adapter.REQUIREMENTS)
    assert set(adapter.DTYPES) <= {"float64", "float32", "float16"}
    assert {type(adapter.GRADIENTS), type(adapter.THREADS)} == {bool}
    tree = ast.parse((Path(adapters.__path__[0]) / f"{name}.py").read_text())
    modules = [
        alias.name if isinstance(node, ast.Import) else node.module
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert set(modules) <= {"__future__", "functools", "numpy", "onnxruntime"}


def test_an_environment_is_named_by_its_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("DCNV2_ENVIRONMENTS", str(tmp_path))
    one, other = (environments.Environment("x", (f"x=={n}",)) for n in (1, 2))
    assert one.folder.parent == tmp_path
    assert one.folder != other.folder
    assert not one.built
    with pytest.raises(RuntimeError, match=r"there is no Python 3\.99"):
        environments.Environment("x", ("x==1",), python="3.99").build()


def test_a_missing_environment_says_how_to_build_it(monkeypatch, tmp_path):
    monkeypatch.setenv("DCNV2_ENVIRONMENTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"run: python -m suites\.\S+\.environments paddle"):
        get_backend("paddle")


def test_the_command_lists_environments_and_knows_no_others(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DCNV2_ENVIRONMENTS", str(tmp_path))
    environments.main([])
    assert "paddle: not built; paddlepaddle==" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        environments.main(["paddel"])
    assert "there is no environment paddel" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", environments.FRAMEWORKS)
def test_a_framework_gives_the_values_of_the_definition(name):
    if not environments.FRAMEWORKS[name].built:
        pytest.skip(f"there is no environment of {name}")
    framework = get_backend(name)
    problem = ConvProblem(
        dtype="float32", padding=(0, 0), offsets="zero", in_channels=2, groups=1, deform_groups=1
    )
    absent = set(framework.unsupported_args)
    problem = problem.but(bias="bias" not in absent, mask="mask" not in absent)
    got = run(framework.operator("deform_conv2d"), problem)
    want = problem.reference(**problem.rounded(), **problem.options())
    torch.testing.assert_close(got["output"].double(), want, rtol=1e-5, atol=1e-5)
    framework._process.close()
