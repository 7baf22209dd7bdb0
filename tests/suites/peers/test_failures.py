# SPDX-License-Identifier: BSD-3-Clause
"""Data files show the failures that they are written for, and nothing else."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import torch

from suites.backends.registry import Target, get_backend
from suites.claims.recorder import Case, Evaluation
from suites.peers import failures
from suites.peers.failures import RUNNER, as_json, find_failure, generated_case, write_failures
from suites.problems.problem import ConvProblem, RoIProblem


def right(input, offset, weight, bias, stride, padding, dilation, mask):
    """Ours, in torchvision's order of arguments."""
    from dcnv2.ops import deform_conv2d

    return deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


def faulty(input, offset, *others):
    """Twice the result; dies of NaN."""
    if offset.isnan().any():
        raise SystemExit(3)
    return 2 * right(input, offset, *others)


RUNS = itertools.count(1)


def changing(*operands):
    """Another result on every run."""
    return next(RUNS) * right(*operands)


def by_layout(input, *others):
    """Wrong for an input that is not contiguous or not at the start of its memory."""
    laid = input.stride() != input.contiguous().stride() or input.storage_offset() > 0
    return (1 + laid) * right(input, *others)


def wrong_in_batches(input, *others):
    """Wrong for more than one image."""
    return len(input) * right(input, *others)


def broken_in_batches(input, *others):
    """An error that is no RuntimeError, for more than one image."""
    return right(input, *others) if len(input) < 2 else [][0]


def refused_in_batches(input, *others):
    """A RuntimeError for more than one image."""
    out = right(input, *others)
    return out if len(input) < 2 else out.reshape(7)


def _target(function=faulty):
    return Target(get_backend(f"{__name__}:{function.__name__}"), "cpu")


def _case(claim="any", failing=None, **fields):
    failing = ConvProblem() if failing is None else failing
    return Case(claim, "faulty-cpu", outcome="failed", failing=failing, **fields)


def _written(case, target, folder):
    return write_failures({"here": case}, {case.target: target}, folder)["here"]


def _change(path, **entries):
    path.write_text(as_json({**json.loads(path.read_text()), **entries}))


def _as_library(function):
    return {"library": f"{__name__}:{function.__name__}@torchvision"}


def _run(path, run=subprocess.run):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, RUNNER, path]
    return run(command, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_data_file_shows_the_failure_and_not_another_implementation_s(tmp_path):
    problem = ConvProblem(dtype="bfloat16", height=12, width=13)  # larger tensors are compressed
    case = _case("equals the reference", problem, evaluations=[Evaluation()])
    path = _written(case, _target(), tmp_path)  # runs it
    assert json.loads(path.read_text())["seen"].startswith("output: off by")
    _change(path, **_as_library(right))
    done = _run(path)
    assert done.returncode == 1
    assert done.stdout == "nothing is off\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        ("transposed", "float64"),
        ("strided", "bfloat16"),
        ("expanded", "float64"),
        ("storage_offset", "bfloat16"),
    ],
)
def test_data_file_keeps_the_layout_of_an_operand(tmp_path, forked, layout, dtype):
    problem = ConvProblem(dtype=dtype, height=3, width=4, layouts=(("input", layout),))
    case = _case("any", problem, evaluations=[Evaluation()])
    assert _written(case, _target(by_layout), tmp_path)  # kept only if it shows the failure


def faulty_pool(input, rois, offset, output_size, spatial_scale, sampling_ratio, gamma):
    """Twice the result."""
    return 2 * right_pool(input, rois, offset, output_size, spatial_scale, sampling_ratio, gamma)


def right_pool(input, rois, offset, output_size, spatial_scale, sampling_ratio, gamma):
    """Ours."""
    from dcnv2.ops import deform_roi_pool

    options = (output_size, spatial_scale, sampling_ratio, gamma)
    return deform_roi_pool(input, rois, offset, None, *options)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_data_file_shows_the_failure_of_a_pooling(tmp_path, forked, dtype):
    problem = RoIProblem(mask=False, dtype=dtype)
    case = _case("pool equals the reference", problem, evaluations=[Evaluation()])
    path = _written(case, _target(faulty_pool), tmp_path)
    assert json.loads(path.read_text())["seen"].startswith("output: off by")
    _change(path, library=f"{__name__}:right_pool@roi_pool")
    done = forked([sys.executable, RUNNER, path])
    assert (done.returncode, done.stdout) == (1, "nothing is off\n")


def test_a_pooling_with_other_offsets_has_no_data_file():
    problem = RoIProblem(mask=False)
    evaluation = Evaluation({"offset": torch.zeros_like(problem.operands()["offset"])})
    case = _case("zero offset is no offset", problem, evaluations=[evaluation])
    assert find_failure(case, _target(faulty_pool)) is None


def test_a_failure_that_does_not_show_leaves_no_data_file(tmp_path):
    case = _case("equals the reference", evaluations=[Evaluation()])
    assert _written(case, _target(right), tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_data_file_of_runs_that_differ(tmp_path, forked):
    problem = ConvProblem(batch=1, offsets="clustered", dtype="float32")
    case = _case("every run gives the same bits", problem)
    path = _written(case, _target(changing), tmp_path)
    assert json.loads(path.read_text())["seen"].startswith("differs from run to run: grad_")
    _change(path, **_as_library(right))
    assert _run(path, forked).returncode == 1


@pytest.mark.parametrize(
    ("function", "code", "seen"),
    [
        (wrong_in_batches, 0, "output of the second image: off by 100 % of its largest"),
        (broken_in_batches, 1, ""),
        (refused_in_batches, 0, "RuntimeError: shape '[7]' is"),
        (right, 1, "nothing is off"),
    ],
    ids=["wrong", "another error", "refused", "right"],
)
def test_data_file_of_a_large_input(run, capsys, monkeypatch, function, code, seen):
    problem = ConvProblem(deform_groups=1, groups=1, dtype="float32", bias=False, mask=False)
    case = generated_case(_case("input of more than 2 31 elements", problem), _target(function))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: [2**40])
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")  # as it was, afterwards
    if not seen:
        with pytest.raises(IndexError):
            run.takes_large_input(case)
        return
    assert run.takes_large_input(case) == (code == 0)
    assert seen in capsys.readouterr().out


def test_failure_may_lie_in_changed_operands():
    problem = ConvProblem()
    case = Case("any", "faulty-cpu", failing=problem)
    case.evaluations = [Evaluation({"weight": torch.zeros(6, 6, 3, 2, dtype=torch.float64)})]
    right = Target(get_backend("dcnv2"), "cpu")
    assert find_failure(case, right) is None
    # Nothing but the bias is left of the result, and nothing of the gradients through the weight.
    assert set(find_failure(case, _target()).allowed) == {"output", "grad_weight", "grad_bias"}


def test_a_failure_lies_in_what_the_claim_asked_for():
    case = Case("any", "faulty-cpu", failing=ConvProblem())
    case.evaluations = [Evaluation(wanted=("weight",))]
    assert set(find_failure(case, _target()).allowed) == {"output", "grad_weight"}


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


def test_changed_operands_have_a_tolerance_of_their_own():
    """Of its own offsets nothing is left of this problem, and so nothing to be rounded."""
    problem = ConvProblem(offsets="far", dtype="float32", bias=False)
    zeros = torch.zeros(problem.offset_shape)
    case = Case("any", "portable-cpu", failing=problem, evaluations=[Evaluation({"offset": zeros})])
    assert find_failure(case, Target(get_backend("portable"), "cpu")) is None
    assert find_failure(case, _target()).allowed["output"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "entries", [{"device": "cuda:77"}, {"library": "no_such_library:conv@mmcv"}]
)
@pytest.mark.parametrize("check", ["definition", "runs"])
def test_data_file_of_what_is_not_here_shows_nothing(tmp_path, forked, entries, check):
    path = _written(_case(evaluations=[Evaluation()]), _target(), tmp_path)
    _change(path, check=check, **entries)
    done = _run(path, forked)
    assert done.returncode == 2
    assert "not judged" in done.stdout


def test_data_files_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "_if_it_shows", lambda path, backend: path)  # in a process each
    variants = ("10000.0", "-10000.0", "2^31-1", "2^31+1")
    cases = {v: _case(variant=v, evaluations=[Evaluation()]) for v in variants}
    paths = write_failures(cases, {"faulty-cpu": _target()}, tmp_path)
    assert len(set(paths.values())) == 4
    assert all(json.loads(path.read_text())["variant"] == v for v, path in paths.items())
