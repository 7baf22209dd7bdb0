# SPDX-License-Identifier: BSD-3-Clause
"""What `dcnv2 verify` prints and writes says what failed, on what, and how to repeat it."""

import json
import runpy
from types import SimpleNamespace

import pytest
import torch

from dcnv2 import cli
from dcnv2.harness import UsageError
from suites.backends.registry import get_backend
from suites.claims.recorder import Case, Evaluation
from suites.claims.session import CheckedTarget, Session
from suites.problems.problem import ConvProblem, RoIProblem
from suites.verify import bench_report, claims_run, report
from suites.verify.command import as_module, prepare, write_skeleton
from suites.verify.script import script
from suites.verify.verdicts import in_words, verdicts

TINY = ConvProblem(
    batch=1, in_channels=1, out_channels=1, height=3, width=4, kernel=(1, 2), stride=(1, 1),
    padding=(0, 0), dilation=(1, 1), groups=1, deform_groups=1, bias=False, mask=False,
)  # fmt: skip


def _target(name):
    return CheckedTarget(get_backend(f"user_operators:{name}"), "cpu", Session())


def _failed(claim="equals the reference", **more):
    about = {"failing": TINY, "evaluations": [Evaluation()], "message": "output by 3\nmore"}
    return Case(claim, outcome="failed", checked=4, **{**about, **more})


def _report(cases, scripts=None):
    found, session = verdicts(cases), Session()
    return report.Report(
        name="mine:conv",
        target=["on cpu", "float64"],
        lacking={"bfloat16": "RuntimeError: <no> bfloat16"},
        verdicts=found,
        recorder=session.recorder,
        scripts=scripts or {},
        repeat="dcnv2 verify mine:conv",
        origin={"torch": torch.__version__},
    )


def test_what_was_not_reached_is_never_a_verdict():
    cases = [
        Case("held", outcome="passed", checked=3),
        Case("held in part", outcome="passed", checked=1, not_reached=9),
        Case("held once", outcome="passed", checked=1, variant="a"),
        Case("held once", outcome="not reached", variant="b"),
        Case("late", outcome="not reached"),
        Case("interrupted"),
        Case("beyond it", outcome="unsupported", unsupported={"no groups": 2}),
    ]
    found = {verdict.claim: verdict for verdict in verdicts(cases)}
    assert [v.verdict for v in found.values()] == [
        *("holds", "holds", "holds", "not reached", "not reached", "unsupported"),
    ]
    assert found["held in part"].remarks == "on fewer problems than planned"
    assert found["held once"].remarks == "1 variants not reached"
    assert found["beyond it"].remarks == "no groups"
    made = _report(cases)
    assert made.headline == (
        "HOLDS: all 3 claims that were checked (1 unsupported, 2 not reached, 2 checked in part)"
    )
    assert _report(cases[4:]).headline.startswith("NOTHING WAS CHECKED")


def test_checks_that_an_interrupted_run_did_not_begin_are_not_reached():
    item = SimpleNamespace(nodeid="a", originalname="test_linear_in")
    plugin = claims_run._Plugin()
    plugin.run.target = _target("right")
    plugin.pytest_sessionfinish(SimpleNamespace(items=[item]))
    (verdict,) = verdicts(plugin.run.cases)
    assert (verdict.claim, verdict.verdict) == ("linear in", "not reached")


def test_the_screen_has_the_failure_its_problem_and_the_command():
    alike = [_failed(), _failed("linear in"), Case("bias is added once", outcome="passed")]
    lines = report.screen(_report(alike))
    assert lines[1] == "FAILS: 2 of 3 claims fail"
    assert lines[3:] == [
        "1. equals the reference (and 1 more claims)",
        "   output by 3",
        "   on: float64, input 1x1x3x4, 1 output channels, kernel 1x2, small offsets, seed 0",
        '   repeat: dcnv2 verify mine:conv --only "equals the reference"',
    ]


def test_words_of_a_problem_leave_out_what_is_plain():
    problem = TINY.but(stride=(2, 1), groups=2, mask=True, layouts=(("input", "crop"),))
    assert in_words(problem).endswith(
        "kernel 1x2, stride 2x1, 2 groups, with mask, input crop, small offsets, seed 0"
    )


def test_files_hold_verdicts_and_scripts(tmp_path):
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures/f.py").write_text("print(1 < 2)")
    made = _report([_failed(), Case("late")], {"equals the reference": "out/failures/f.py"})
    page = report.write(made, tmp_path).read_text()
    assert "print(1 &lt; 2)" in page
    assert "&lt;no&gt; bfloat16" in page
    assert "http-equiv" not in page
    assert "src=" not in page
    data = json.loads((tmp_path / "verify.json").read_text())
    assert [claim["verdict"] for claim in data["claims"]] == ["fails", "not reached"]
    assert data["claims"][0]["variants"][0]["problem"]["kernel"] == [1, 2]
    assert "`python out/failures/f.py`" in (tmp_path / "verify.md").read_text()


@pytest.mark.parametrize(
    ("name", "layouts"), [("swapped", ()), ("swapped", (("offset", "strided"),)), ("raising", ())]
)
def test_a_script_shows_the_failure_and_nothing_where_there_is_none(
    tmp_path, monkeypatch, name, layouts
):
    failing = TINY.but(layouts=layouts)
    text = script(_failed(failing=failing), _target(name))
    path = tmp_path / "failure.py"
    path.write_text(text)
    if name == "raising":
        with pytest.raises(KeyError, match="columns"):
            runpy.run_path(str(path))
        return
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path))
    assert ended.value.code == 1
    path.write_text(text.replace("import swapped", "import right as swapped"))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path))
    assert ended.value.code == 0


@pytest.mark.parametrize("kind", ["roi", "psroi"])
def test_a_script_shows_the_failure_of_a_pooling(tmp_path, kind):
    failing = RoIProblem(kind=kind, bins=(2, 2), mask=False, rois=("inside",), height=5, width=6)
    name = {"roi": "pool", "psroi": "psroi_pool"}[kind]
    target = CheckedTarget(
        get_backend(f"user_operators:swapped_{name}@{kind}_pool"), "cpu", Session()
    )
    text = script(_failed(failing=failing), target)
    path = tmp_path / "failure.py"
    for function, code in ((f"swapped_{name}", 1), (f"right_{name}", 0)):
        path.write_text(text.replace(f"swapped_{name}", function))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path))
        assert ended.value.code == code


def test_a_right_operator_has_no_script():
    assert script(_failed(), _target("right")) is None


def test_a_skeleton_is_written_once(tmp_path):
    path = tmp_path / "mine.py"
    assert write_skeleton(path) == 0
    text = path.read_text()
    assert text.startswith('"""An adapter')
    with pytest.raises(UsageError, match="exists"):
        write_skeleton(path)
    assert path.read_text() == text
    for name in ("mine", "my-conv.py", "reference.py", "3.py"):
        with pytest.raises(UsageError, match="wanted the name of a Python module"):
            write_skeleton(tmp_path / name)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("reference:deform_conv2d", {}, "rename the module"),
        ("user_operators:right", {"device": "cuda"}, "no GPU"),
        ("user_operators:right", {"budget": "soon"}, "wanted a time"),
        ("user_operators:float_only", {"dtypes": ["float32", "float16"]}, "does not run in a sel"),
        ("nothing", {}, "module.path:function"),
    ],
)
def test_what_prevents_a_verdict_is_a_sentence(monkeypatch, spec, options, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=message):
        prepare(spec, **{"device": "cpu", "budget": "none", "dtypes": (), **options})


def test_a_file_becomes_a_module(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    (tmp_path / "some_operator.py").write_text("")
    assert as_module(f"{tmp_path}/some_operator.py:f") == "some_operator:f"
    assert as_module("package.module:f") == "package.module:f"
    (tmp_path / "json.py").write_text("")
    with pytest.raises(UsageError, match="another module has the name json"):
        as_module(f"{tmp_path}/json.py:f")
    with pytest.raises(UsageError, match="there is no file"):
        as_module("absent.py:f")


def test_the_command_line_ends_with_2_where_there_is_no_verdict(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "no_such_module:f"]) == 2
    assert cli.main(["verify"]) == 2
    assert cli.main(["bench", "no_such_module:f"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(line.startswith("dcnv2: ") for line in said)


def test_a_missing_package_names_the_extra(capsys, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'hypothesis'", name="hypothesis")

    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setattr("importlib.import_module", missing)
    assert cli.main(["verify", "mine:f"]) == 2
    assert 'pip install "dcnv2-torch[harness]"' in capsys.readouterr().err


def test_times_have_bars_and_reasons(tmp_path):
    row = bench_report.Row("c3", "float32", "forward", "mine:conv")
    rows = [
        row.but(ms=2.0, workspace_mib=1.0),
        row.but(implementation="dcnv2", ms=1.0),
        row.but(passes="backward", remark="no gradients"),
        row.but(passes="backward", implementation="dcnv2", remark="not reached"),
    ]
    lines = bench_report.screen("mine:conv", rows)
    assert "not reached" in lines[0]
    assert lines[1:] == ["no gradients: c3 backward"]
    page = bench_report.write("mine:conv", rows, {"torch": "2"}, tmp_path).read_text()
    assert page.count("<rect") == 3
    assert json.loads((tmp_path / "bench.json").read_text())["rows"][0]["ms"] == 2.0
