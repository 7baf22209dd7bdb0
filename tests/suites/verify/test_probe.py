# SPDX-License-Identifier: BSD-3-Clause
"""The first calls of a user's operator say what it takes, or in one sentence why it is none."""

import pytest
import torch
import user_operators

from suites.backends.registry import Target, get_backend
from suites.claims.probe import probe
from suites.problems.evaluate import NoGradientsError
from suites.problems.problem import DTYPES, ConvProblem
from suites.tolerance.expectation import Expectation


def _probed(name, **options):
    backend = get_backend(f"user_operators:{name}")
    probe(backend, "cpu", **options)
    return backend


def test_a_differentiable_function_of_every_dtype_lacks_nothing():
    backend = _probed("right")
    assert (backend.arrays, backend.lacking, backend.dtypes) == (False, {}, DTYPES)


def test_a_function_of_arrays_is_recognised_and_has_no_gradients():
    backend = _probed("of_arrays")
    assert backend.arrays
    assert {*backend.lacking} == {"bfloat16", "gradients", "integers"}


@pytest.mark.parametrize("name", ["of_arrays", "detached"])
def test_results_without_gradients_are_outputs_only(name):
    problem = ConvProblem(groups=1)
    target = Target(_probed(name, dtypes=["float64"]), "cpu")
    got = target.run(problem)
    assert got.keys() == {"output"}
    torch.testing.assert_close(got["output"], Expectation(problem).truth["output"])
    with pytest.raises(NoGradientsError):
        got["grad_input"]


def test_a_dtype_that_raises_is_unsupported_with_its_message():
    backend = _probed("float_only")
    assert backend.dtypes == ("float32",)
    assert backend.lacking["float64"] == "RuntimeError: not implemented for this dtype"
    assert backend.supports(ConvProblem(dtype="float16"), "cpu") == "no float16"


def test_only_selected_dtypes_are_called():
    with pytest.raises(ValueError, match=r"raises on its first call .*float64"):
        _probed("float_only", dtypes=["float64"])


def test_what_is_declared_unsupported_is_not_called(monkeypatch):
    declared = {"supports": lambda problem: "no bias" if problem.bias else None}
    monkeypatch.setattr(user_operators, "supports", declared["supports"], raising=False)
    assert _probed("right").lacking == {}
    monkeypatch.setattr(user_operators, "supports", lambda problem: "closed")
    with pytest.raises(ValueError, match=r"supports\(\) .* refuses even the plainest .*: closed"):
        _probed("right")
    monkeypatch.setattr(user_operators, "supports", lambda problem: 1 // 0)
    with pytest.raises(ValueError, match=r"supports\(\) .* raises ZeroDivisionError"):
        _probed("right")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("of_another_shape", r"returns \[1, 2, 5, 6\] float32, wanted \[1, 3, 5, 6\] float32"),
        ("of_nothing", "returns an object of NoneType, not a tensor"),
        ("raising", r"raises on its first call \(input \[1, 2, 5, 6\], .*: KeyError: 'columns'"),
        ("dying", "the process died with exit code 3"),
    ],
)
def test_no_operator_is_one_sentence(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        _probed(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("user_operators:of_two", r"of_two\(input, weight\) can't be called with input, offset"),
        ("user_operators:Layer", "is a class; name a function"),
        ("user_operators:NUMBER", "is of type int, not a function"),
        ("user_operators:rihgt", "has no rihgt; it has right, swapped"),
        ("user_operators:", "wanted module:function"),
        ("no_such_module:f", "there is no module no_such_module"),
        ("user_operators.sub:f", "there is no module user_operators.sub"),
    ],
)
def test_a_wrong_name_is_one_sentence(spec, message):
    with pytest.raises(ValueError, match=message):
        get_backend(spec)


def test_a_module_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import no_such_package")
    (tmp_path / "is_broken.py").write_text("x = 1 +")
    with pytest.raises(ValueError, match=r"needs_more needs a module .* 'no_such_package'"):
        get_backend("needs_more:f")
    with pytest.raises(ValueError, match="is_broken can't be imported: SyntaxError"):
        get_backend("is_broken:f")


@pytest.mark.slow  # to import torchvision
def test_torchvision_s_own_function_is_recognised():
    pytest.importorskip("torchvision")
    backend = get_backend("torchvision.ops:deform_conv2d")
    assert backend.called_as["deform_conv2d"].endswith("@torchvision")
    assert backend.version
