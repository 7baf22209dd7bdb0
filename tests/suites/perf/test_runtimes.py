# SPDX-License-Identifier: BSD-3-Clause
"""Inference runtimes as peers: they compute our export, in their pass, device and dtype only."""

import dataclasses

import pytest
import torch

from suites.perf import conftest
from suites.perf.cases import Selection
from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import Layer
from suites.perf.problems import PASSES, LayerPasses

SMALL = Layer(
    "small", "none", 2, 6, 4, 7, 9, kernel=(3, 2), padding=(1, 2), stride=(2, 1), dilation=(1, 2),
    groups=2, deform_groups=3,
)  # fmt: skip
RUNTIMES = ("onnxruntime", "openvino")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_runtime_computes_the_layer(name):
    pytest.importorskip(name)
    first, second = (
        LayerPasses(SMALL, IMPLEMENTATIONS[name], "fp32", "cpu", seed=n) for n in (1, 2)
    )
    for problem in (first, second, first):  # each has a weight of its own
        ours = IMPLEMENTATIONS["dcnv2"].call(SMALL, problem.operands)
        torch.testing.assert_close(problem.forward(), ours.detach(), rtol=1e-5, atol=1e-5)


def _selection(**changes):
    chosen = {
        "device": "cpu", "sets": ("cpu", "sweeps"), "dtypes": ("fp32", "bf16"), "passes": PASSES,
        "implementations": ("dcnv2", *RUNTIMES), "layouts": ("contiguous", "channels_last"),
    }  # fmt: skip
    return Selection(**(chosen | changes))


def test_runtimes_have_only_the_forward_pass_in_float32():
    selection = _selection()
    for cases in (selection.layer_cases(), selection.sweep_cases()):
        kinds = {(c.dtype, c.layout, c.passes) for c in cases if c.implementation in RUNTIMES}
        assert kinds == {("fp32", "contiguous", "forward")}
        assert {c.passes for c in cases if c.implementation == "dcnv2"} >= {"forward", "backward"}
    calls = selection.eager_calls()
    assert calls == [("dcnv2", p) for p in PASSES] + [(name, "forward") for name in RUNTIMES]


def test_runtimes_are_measured_on_a_cpu_only():
    selection = _selection(device="cuda", sets=("eight",))
    assert {case.implementation for case in selection.layer_cases()} == {"dcnv2"}
    assert {name for name, _ in selection.eager_calls()} == {"dcnv2"}


class _Config:
    """The part of pytest's configuration that the perf suite reads."""

    def __init__(self, **options):
        self.options, self.stash = {"device": "cpu"} | options, {}

    def getoption(self, name, default=None):
        return self.options.get(name, default)


@pytest.fixture
def without_openvino(monkeypatch):
    lacking = dataclasses.replace(IMPLEMENTATIONS["openvino"], packages=("onnx", "no_such_package"))
    changed = IMPLEMENTATIONS | {"openvino": lacking}
    monkeypatch.setattr(conftest, "IMPLEMENTATIONS", changed)
    monkeypatch.setattr(conftest, "has_compiled_kernels", lambda device: True)


def test_missing_package_is_named_with_the_command_that_installs_it(without_openvino):
    message = r"openvino needs no_such_package, not installed here: pip install onnx openvino==\d"
    with pytest.raises(pytest.UsageError, match=message):
        conftest.pytest_configure(_Config(impl="dcnv2,openvino"))


def test_default_is_every_installed_implementation(without_openvino):
    config = _Config()
    conftest.pytest_configure(config)
    chosen = config.stash[conftest._SELECTION].implementations
    assert "openvino" not in chosen
    assert {"dcnv2", "onnxruntime"} <= set(chosen)
