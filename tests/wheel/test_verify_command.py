# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2 verify` and `dcnv2 bench` of an installed wheel, in a folder with one file of a user."""

import json
import shutil
import xml.etree.ElementTree as ET

import pytest

USER = """
from torchvision.ops import deform_conv2d as right


def swapped(input, offset, weight, bias, stride, padding, dilation, mask):
    batch, points, *size = offset.shape
    offset = offset.view(batch, points // 2, 2, *size).flip(2).view(batch, points, *size)
    return right(input, offset, weight, bias, stride, padding, dilation, mask)


def without_groups(input, offset, weight, bias, stride, padding, dilation, mask):
    if input.shape[1] != weight.shape[1]:
        raise NotImplementedError("no groups here")
    return right(input, offset, weight, bias, stride, padding, dilation, mask)


def of_arrays(input, offset, weight, bias, stride, padding, dilation, mask):
    import torch

    given = (torch.from_numpy(t) if t is not None and t.ndim else None for t in (input, offset))
    rest = [None if t is None else torch.from_numpy(t) for t in (weight, bias, mask)]
    return right(*given, *rest[:2], stride, padding, dilation, rest[2]).numpy()
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def dcnv2(installation):
    """Run a command of the wheel next to the user's file."""
    (installation.folder / "mine.py").write_text(USER)
    shutil.rmtree(installation.folder / "dcnv2-verify", ignore_errors=True)
    return lambda *words: installation.run("-m", "dcnv2", *words)


def _verdicts(installation):
    data = json.loads((installation.folder / "dcnv2-verify/verify.json").read_text())
    return {claim["claim"]: claim["verdict"] for claim in data["claims"]}


def test_a_wheel_adds_one_package_with_the_suites_inside(installation):
    tops = {name.partition("/")[0] for name in installation.names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"dcnv2"}
    inside = {name for name in installation.names if name.startswith("dcnv2/harness/")}
    assert "dcnv2/harness/suites/correctness/conftest.py" in inside
    assert "dcnv2/harness/reference/__init__.py" in inside
    assert not [name for name in inside if name.endswith(".pyc") or "/coco/" in name]


def test_swapped_offsets_fail_with_a_script_that_shows_it(dcnv2, installation):
    done = dcnv2(*("verify", "mine:swapped", "--dtype", "float64", "--only", "integer offset"))
    assert done.returncode == 1, done.stderr
    assert "FAILS: 1 of 1 claims fail" in done.stdout
    repeat = done.stdout.partition("repeat: python ")[2].splitlines()[0]
    assert installation.run(repeat).returncode == 1
    folder = installation.folder / "dcnv2-verify"
    assert "off by" not in (folder / "verify.html").read_text().partition("<pre>")[0]
    assert (folder / "verify.md").read_text().startswith("# mine:swapped")
    assert ET.parse(folder / "junit.xml").getroot()[0].get("failures") == "1"


def test_an_operator_that_raises_on_groups_fails_where_there_are_groups(dcnv2, installation):
    done = dcnv2("verify", "mine.py:without_groups", "--only", "groups_are", "--dtype", "float32")
    assert done.returncode == 1, done.stderr
    assert "NotImplementedError: no groups here" in done.stdout
    assert _verdicts(installation)["groups are separate convolutions"] == "fails"


def test_a_function_of_arrays_has_outputs_only(dcnv2, installation):
    done = dcnv2("verify", "mine:of_arrays", "--only", "bias is added")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "called with NumPy arrays" in done.stdout
    assert _verdicts(installation) == {"bias is added once": "holds"}
    done = dcnv2("verify", "mine:of_arrays", "--only", "accumulate")
    assert done.returncode == 2
    assert "no claim was checked" in done.stderr
    assert _verdicts(installation) == {"gradients accumulate over steps": "unsupported"}


def test_torchvision_is_called_as_it_is_and_the_time_ends(dcnv2, installation):
    done = dcnv2("verify", "torchvision.ops:deform_conv2d", "--budget", "8s", "--device", "cpu")
    assert done.returncode in (0, 1), done.stderr
    assert "no bfloat16" in done.stdout
    assert "not reached" in _verdicts(installation).values()
    assert "not reached" in done.stdout


def test_a_skeleton_runs_as_it_is(dcnv2, installation):
    (installation.folder / "adapter.py").unlink(missing_ok=True)
    assert dcnv2("verify", "--new", "adapter.py").returncode == 0
    done = dcnv2("verify", "adapter.py:deform_conv2d", "--only", "zero offset and")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", [("mine:absent",), ("mine:right", "--only", "no (claim")])
def test_what_prevents_a_verdict_ends_with_2(dcnv2, words):
    done = dcnv2("verify", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("dcnv2: ")
    assert "Traceback" not in done.stderr


def test_times_are_measured_next_to_others(dcnv2, installation):
    done = dcnv2("bench", "mine:right", "--budget", "1s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not reached" in done.stdout
    assert "<svg" in (installation.folder / "dcnv2-bench/bench.html").read_text()
