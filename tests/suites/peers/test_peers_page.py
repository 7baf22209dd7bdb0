# SPDX-License-Identifier: BSD-3-Clause
"""Scripts show what they say, and reports of several machines come together on one page."""

import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import torch

from suites.backends.registry import BACKENDS, Target, get_backend
from suites.claims.recorder import Case, Evaluation
from suites.peers import page
from suites.peers.repro_scripts import _DRAWN, drawn_script, find_failure, write_scripts
from suites.problems.problem import ConvProblem
from suites.reporting.report import PROVENANCE, REPORTS, ROOT

# Peers are judged in forked processes, by a parent that leaves autograd alone: other tests do not.
FORKS = pytest.mark.skipif(
    torch.cuda.is_available(), reason="autograd's GPU threads outlive no fork"
)
SCRIPTS = sorted((REPORTS / "verdicts").glob("*.py"))


def faulty(input, offset, weight, bias, stride, padding, dilation, mask):
    """Twice the result; dies of NaN."""
    from dcnv2.ops import deform_conv2d

    if offset.isnan().any():
        raise SystemExit(3)
    return 2 * deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


_CALL = "peer(input, offset, weight, bias, stride, padding, dilation, mask)"


def _target(function="faulty"):
    target = Target(get_backend(f"{__name__}:{function}"), "cpu")
    target.backend.calling = (
        "from dcnv2.ops import deform_conv2d as peer",
        f"2 * {_CALL}",
    )
    return target


def _written(case, target, folder):
    return write_scripts({"here": case}, {case.target: target}, folder)["here"]


def _run(script):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # in a checkout nothing need be installed
    return subprocess.run([sys.executable, script], env=env, capture_output=True, text=True)


def test_script_shows_the_failure_and_not_another_implementation_s(tmp_path):
    problem = ConvProblem(dtype="bfloat16", height=12, width=13)  # larger tensors are compressed
    case = Case(
        "equals the reference",
        "faulty-cpu",
        outcome="failed",
        failing=problem,
        evaluations=[Evaluation()],
    )
    path = _written(case, _target(), tmp_path)  # runs it
    assert "Seen: output: off by" in path.read_text()
    path.write_text(path.read_text().replace("return 2 * peer", "return peer"))
    done = _run(path)
    assert done.returncode == 1
    assert done.stdout == "nothing is off\n"


@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded", "storage_offset"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_script_keeps_the_layout_of_an_operand(tmp_path, layout, dtype):
    target = _target()
    laid = "input.stride() != input.contiguous().stride() or input.storage_offset()"
    target.backend.calling = (
        "from dcnv2.ops import deform_conv2d as peer", f"(1 + bool({laid})) * {_CALL}"
    )  # fmt: skip
    problem = ConvProblem(dtype=dtype, height=3, width=4, layouts=(("input", layout),))
    case = Case("any", "faulty-cpu", outcome="failed", failing=problem, evaluations=[Evaluation()])
    assert _written(case, target, tmp_path)  # only what shows the failure is left


def test_a_failure_that_is_not_there_leaves_no_script(tmp_path):
    target = _target()
    target.backend.calling = ("from dcnv2.ops import deform_conv2d as peer", _CALL)
    case = Case(
        "equals the reference",
        "faulty-cpu",
        outcome="failed",
        failing=ConvProblem(),
        evaluations=[Evaluation()],
    )
    assert _written(case, target, tmp_path) is None
    assert not list(tmp_path.glob("*.py"))


def test_script_of_runs_that_differ(tmp_path):
    target, problem = _target(), ConvProblem(batch=1, offsets="clustered", dtype="float32")
    target.backend.calling = (
        "from dcnv2.ops import deform_conv2d as peer\nfrom itertools import count\nruns = count(1)",
        f"next(runs) * {_CALL}",
    )
    case = Case("every run gives the same bits", "faulty-cpu", outcome="failed", failing=problem)
    path = _written(case, target, tmp_path)
    assert "Seen: differs from run to run: grad_" in path.read_text()
    path.write_text(path.read_text().replace("next(runs) * ", ""))
    assert _run(path).returncode == 1


@pytest.mark.parametrize(
    ("peer", "code", "seen"),
    [
        (f"{_CALL} * len(input)", 0, "output of the second image: off by 100 % of its largest"),
        (f"{_CALL} if len(input) < 2 else [][0]", 1, ""),
        (f"{_CALL} if len(input) < 2 else {_CALL}.reshape(7)", 0, "RuntimeError: shape '[7]' is"),
        (_CALL, 1, "nothing is off"),
    ],
    ids=["wrong", "another error", "refused", "right"],
)
def test_script_of_an_input_that_is_large(tmp_path, peer, code, seen):
    target = _target()
    target.backend.calling = ("from dcnv2.ops import deform_conv2d as peer", peer)
    problem = ConvProblem(deform_groups=1, groups=1, dtype="float32", bias=False, mask=False)
    case = Case("input of more than 2 31 elements", "faulty-cpu", failing=problem)
    path = tmp_path / "script.py"
    text = drawn_script(case, target)
    path.write_text(text.replace("torch.cuda.mem_get_info()", "[2**40]"))
    done = _run(path)
    assert done.returncode == code
    assert seen in done.stdout


@pytest.mark.parametrize("claim", _DRAWN)
@pytest.mark.parametrize("peer", ["torchvision", "mmcv"])
def test_scripts_of_a_gpu_are_python_at_least(claim, peer):
    target = Target(BACKENDS[peer](), "cuda")
    case = Case(claim, target.name, failing=ConvProblem())
    text = drawn_script(case, target)
    compile(text, "script.py", "exec")
    assert re.findall("<<.*>>", text) == ["<<seen>>"]  # to be filled once it has run


@FORKS
def test_failure_may_lie_in_changed_operands():
    problem = ConvProblem()
    case = Case("any", "faulty-cpu", failing=problem)
    case.evaluations = [Evaluation({"weight": torch.zeros(6, 6, 3, 2, dtype=torch.float64)})]
    right = Target(get_backend("dcnv2"), "cpu")
    assert find_failure(case, right) is None
    # Nothing but the bias is left of the result, and nothing of the gradients through the weight.
    assert set(find_failure(case, _target()).allowed) == {"output", "grad_weight", "grad_bias"}


@FORKS
def test_a_failure_lies_in_what_the_claim_asked_for():
    case = Case("any", "faulty-cpu", failing=ConvProblem())
    case.evaluations = [Evaluation(wanted=("weight",))]
    assert set(find_failure(case, _target()).allowed) == {"output", "grad_weight"}


@FORKS
def test_a_peer_s_failure_is_sought_without_autograd_here(monkeypatch):
    """Its engine would look for GPUs, and then no process forked from here could use one."""
    here, real = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: here.append(a) or real(*a, **k))
    problem = ConvProblem(batch=3, height=7, dtype="float32")
    case = Case("any", "torchvision-cpu", failing=problem, evaluations=[Evaluation()])
    find_failure(case, Target(get_backend("torchvision"), "cpu"))
    assert not here


def test_an_operand_that_the_problem_lacks_may_be_given():
    problem = ConvProblem(mask=False)
    ones = torch.ones_like(ConvProblem().operands()["mask"])
    case = Case("any", "faulty-cpu", failing=problem, evaluations=[Evaluation({"mask": ones})])
    assert find_failure(case, Target(get_backend("dcnv2"), "cpu")) is None


def test_operands_of_other_sizes_are_no_evaluation_of_the_problem():
    problem = ConvProblem()
    case = Case("any", "faulty-cpu", failing=problem)
    wide = torch.nn.functional.pad(problem.operands()["input"], (1, 1))
    case.evaluations = [Evaluation({"input": wide}), Evaluation({"mask": None})]
    assert find_failure(case, Target(get_backend("dcnv2"), "cpu")) is None


def test_what_noted_no_evaluation_is_shown_by_a_crash_alone():
    case = Case("garbage is never read", "faulty-cpu", failing=ConvProblem())
    assert find_failure(case, _target()) is None
    case.failing = ConvProblem(offsets="nan")
    assert find_failure(case, _target()).died


def test_changed_operands_have_a_price_of_their_own():
    """Of its own offsets nothing is left of this problem, and so nothing to be rounded."""
    problem = ConvProblem(offsets="far", dtype="float32", bias=False)
    zeros = torch.zeros(problem.offset_shape)
    case = Case("any", "portable-cpu", failing=problem, evaluations=[Evaluation({"offset": zeros})])
    assert find_failure(case, Target(get_backend("portable"), "cpu")) is None
    assert find_failure(case, _target()).allowed["output"] > 0


def test_script_of_a_device_that_is_not_there_shows_nothing(tmp_path):
    case = Case(
        "any", "faulty-cpu", outcome="failed", failing=ConvProblem(), evaluations=[Evaluation()]
    )
    path = _written(case, _target(), tmp_path)
    path.write_text(path.read_text().replace('DEVICE = "cpu"', 'DEVICE = "cuda:77"'))
    done = _run(path)
    assert done.returncode == 2
    assert "not judged" in done.stdout


def test_scripts_have_names_of_their_own(tmp_path):
    variants = ("10000.0", "-10000.0", "2^31-1", "2^31+1")
    cases = {
        v: Case(
            "any",
            "faulty-cpu",
            v,
            outcome="failed",
            failing=ConvProblem(),
            evaluations=[Evaluation()],
        )
        for v in variants
    }
    paths = write_scripts(cases, {"faulty-cpu": _target()}, tmp_path)
    assert len(set(paths.values())) == 4
    assert all(f"[{variant}]" in path.read_text() for variant, path in paths.items())


def test_an_operator_of_anybody_s_has_scripts_too(tmp_path):
    target = Target(get_backend(f"{__name__}:faulty"), "cpu")
    case = Case(
        "any", target.name, outcome="failed", failing=ConvProblem(), evaluations=[Evaluation()]
    )
    assert "Seen: output: off by" in _written(case, target, tmp_path).read_text()


def _report(folder, target, gpu, verdict):
    folder.mkdir()
    script = f"{target.replace('-', '_')}_holds_water.py"
    row = {
        "claim": "holds water", "variant": "", "target": target, "verdict": verdict, "judged": 3,
        "unsupported": 0, "reasons": "", "failing": "Problem()" if verdict == "failed" else "",
        "script": script if verdict == "failed" else "", **dict.fromkeys(PROVENANCE, "x"),
        "gpu": gpu, "torchvision": "1.2", "version": "1.2+cu130",
    }  # fmt: skip
    pd.DataFrame([row]).to_csv(folder / "correctness.csv", index=False)
    (folder / "failures").mkdir()
    (folder / "failures" / script).write_text(gpu)
    return folder


def test_reports_of_two_machines_come_together(tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    cpu = _report(tmp_path / "a", "torchvision-cpu", "none", "failed")
    gpu = _report(tmp_path / "b", "torchvision-cuda", "NVIDIA H200", "passed")
    page.write([cpu], pages)
    text = page.write([gpu], pages).read_text()
    assert re.search(r"\| claim +\| torchvision 1.2 CPU +\| torchvision 1.2 H200 +\|", text)
    assert re.search(r"\| holds water +\| \*\*fails\*\* +\| holds +\|", text)
    assert re.search(r"\| torchvision 1.2 CPU +\| 0 +\| 1 +\| 0 +\| 0 +\| 0 +\|", text)
    assert re.search(r"\| torchvision 1.2 H200 +\| 1 +\| 0 +\| 0 +\| 0 +\| 0 +\|", text)
    other = _report(tmp_path / "d", "torchvision-cuda", "NVIDIA A100", "failed")
    page.write([other], pages)
    kept = {path.stem: path.read_text() for path in (pages / "verdicts").glob("*.py")}
    assert kept == {
        "torchvision_1_2_cpu_holds_water": "none",
        "torchvision_1_2_a100_holds_water": "NVIDIA A100",
    }
    again = _report(tmp_path / "c", "torchvision-cpu", "none", "passed")
    text = page.write([again], pages).read_text()
    assert text.count("| **fails") == 1
    assert [path.stem for path in (pages / "verdicts").glob("*.py")] == [
        "torchvision_1_2_a100_holds_water"
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_reported_failure_is_still_there(script):
    pytest.importorskip(script.name.partition("_")[0])
    if '= "cuda"' in script.read_text() and not torch.cuda.is_available():
        pytest.skip("shown on a GPU")
    done = _run(script)
    assert done.returncode == 0, done.stdout + done.stderr
