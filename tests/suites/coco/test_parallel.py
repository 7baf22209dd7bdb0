# SPDX-License-Identifier: BSD-3-Clause
"""Calls in processes of their own: results, errors, and their end with a signal or the parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from suites.coco.parallel import GRACE_S, StopRequest, cores, run_all
from suites.reporting.folders import ROOT

WAITING = """
import sys, time
from pathlib import Path
from suites.coco.parallel import StopRequest, run_all

# A grandchild stands for a loader process; it records SIGTERM, as a training does.
CODE = '''
import os, signal, subprocess, sys, time
if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("{folder}/" + str(os.getpid()), "w").close()
open("{folder}/" + str(child.pid), "w").close()
time.sleep(600)
'''
folder = Path(sys.argv[1])
call = (exec, (CODE.format(folder=folder, stubborn=sys.argv[2]),))
with StopRequest() as stop:
    run_all({"a": call, "b": call}, 2, folder.parent, stop)
"""


LIGHT = """
import sys, types

def set_num_threads(number):
    global threads
    threads = number

sys.modules["torch.utils.data"] = types.SimpleNamespace(DataLoader=list, Dataset=list)
sys.modules["torch.utils"] = types.SimpleNamespace(data=sys.modules["torch.utils.data"])
"""


@pytest.fixture(autouse=True)
def light_torch(tmp_path, monkeypatch):
    """Stands for torch, of which the processes call one function: importing it takes seconds."""
    folder = tmp_path / "light"
    folder.mkdir()
    (folder / "torch.py").write_text(LIGHT)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_by_name_in_order(jobs, tmp_path):
    calls = {"b": (eval, ("__import__('torch').threads",)), "a": (pow, (3, 2))}
    seen = []
    results = run_all(calls, jobs, tmp_path, StopRequest(), lambda *names: seen.append(names))
    assert list(results.items()) == [("b", max(cores() // jobs, 1)), ("a", 9)]
    assert max(len(running) for running, _ in seen) == jobs


def test_an_error_of_a_call_is_raised_and_its_log_kept(tmp_path):
    with pytest.raises(ValueError, match="invalid literal"):
        run_all({"good": (int, ("1",)), "bad": (int, ("x",))}, 2, tmp_path, StopRequest())
    assert "Traceback" in (tmp_path / "bad.txt").read_text()


def test_a_call_that_dies_names_its_log(tmp_path):
    with pytest.raises(RuntimeError, match=r"exit status 3 without a result, see .*a\.txt"):
        run_all({"a": (os._exit, (3,))}, 1, tmp_path, StopRequest())


@pytest.mark.parametrize(
    ("number", "whole_group", "stubborn"),
    [
        (signal.SIGINT, True, False),
        (signal.SIGTERM, False, True),
        (signal.SIGKILL, False, True),
    ],
)
def test_all_processes_end_with_a_signal(number, whole_group, stubborn, tmp_path, light_torch):
    """Also those that ignore SIGTERM, and the processes that they have started."""
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "pids").mkdir()
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "waiting.py"), str(tmp_path / "pids"), str(stubborn)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": f"{light_torch}{os.pathsep}{ROOT}"},
        start_new_session=True,
    ) as parent:
        _wait_until(lambda: len(os.listdir(tmp_path / "pids")) == 4, 120)
        began = time.monotonic()
        (os.killpg if whole_group else os.kill)(parent.pid, number)
        parent.wait(60)
    pids = list(map(int, os.listdir(tmp_path / "pids")))
    _wait_until(lambda: not any(map(_lives, pids)), 60)
    # Twice the time leaves room for a busy machine.
    assert time.monotonic() - began < 2 * GRACE_S


def _wait_until(condition, seconds):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    assert condition()


def _lives(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
