# SPDX-License-Identifier: BSD-3-Clause
"""The run over all implementations, and the questions on conventions."""

from types import SimpleNamespace

import pytest

import reference
from suites.peers import conventions, field


def test_every_implementation_is_judged_and_added_to_the_page(tmp_path, monkeypatch):
    ran, written = [], []

    def run(command, cwd, env):
        ran.append(command[2:])
        return SimpleNamespace(
            returncode=2 if "tvm" in command else 1 if "pytest" in command else 0
        )

    monkeypatch.setattr(field, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(field.Subject, "prepare", lambda self: None)
    monkeypatch.setattr(field.page, "write", written.append)
    assert field.main(["paddle", "tvm", "--profile", "brief", "--out", str(tmp_path)]) == 1
    assert written == [[tmp_path / "paddle"]]
    assert ran[0][:6] == ["pytest", "suites/correctness", "--backend", "paddle", "--device", "cpu"]
    assert ran[1] == ["suites.peers.conventions", "paddle", "--out", str(tmp_path / "paddle")]


def test_what_cannot_be_had_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(field.importlib.util, "find_spec", lambda name: None)
    assert not field.judge("mmcv", "brief", tmp_path)
    assert "mmcv: not judged: mmcv is not installed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        field.main(["mmvc"])
    assert "there is no implementation mmvc" in capsys.readouterr().err


class _Definition:
    """The reference as a backend, with changes to its output."""

    ours = False
    safe = True
    name = "definition"

    def supports(self, problem, device):
        return None

    def operator(self, op):
        return reference.deform_conv2d


class _InWorker(_Definition):
    """The same in a process of its own."""

    safe = False


@pytest.mark.parametrize("backend", [_Definition, pytest.param(_InWorker, marks=pytest.mark.slow)])
def test_the_definition_answers_by_the_definition(monkeypatch, backend):
    monkeypatch.setattr(conventions, "get_backend", lambda name: backend())
    got = dict(conventions.answers("definition").itertuples(index=False))
    assert got.keys() == conventions.QUESTIONS.keys()
    assert got.pop("coordinates in float16") in ("exact", "rounded to half")
    assert got == {
        "ones, half a pixel outside": "0.5 before the first, 0.5 behind the last",
        "slope at a kink": "right",
        "slope on the last column": "right",
        "slope at -1": "right",
        "output of a NaN offset": "NaN",
        "output of an infinite offset": "0",
        "gradient of an infinite offset": "0",
        "mask": "a factor",
        "empty batch": "empty",
        "3 deform groups": "right",
        "2 groups, 3 deform groups, 4 output channels": "right",
    }


def test_errors_and_crashes_are_answers():
    def ask(probe):
        raise AssertionError(probe)

    assert conventions._answer(ask, "the process died with exit code -11") == "crash"
    assert conventions._answer(ask, "ValueError: no") == "error: ValueError: no"
    assert conventions._answer(ask, "no at /x/y/z.cpp:3") == "error: no at z.cpp:3"
