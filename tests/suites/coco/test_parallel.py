# SPDX-License-Identifier: BSD-3-Clause
"""Trainings side by side."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from suites.coco.parallel import NamedLines, run_all

WAITING = """
import sys, time
from suites.coco.parallel import run_all

if __name__ == "__main__":
    call = (exec, ("import os, time; print(os.getpid(), flush=True); time.sleep(600)",))
    run_all({"a": call, "b": call}, 2)
"""


def test_lines_carry_the_name_and_are_no_terminal():
    stream = io.StringIO()
    lines = NamedLines(stream, "dcnv2")
    print("step 1\nstep", 2, file=lines)
    lines.write("not yet")
    assert stream.getvalue() == "dcnv2: step 1\ndcnv2: step 2\n"
    assert not lines.isatty()


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_by_name_in_order(jobs):
    calls = {"b": (pow, (2, 5)), "a": (pow, (3, 2))}
    assert list(run_all(calls, jobs).items()) == [("b", 32), ("a", 9)]


def test_an_error_of_a_training_is_raised():
    with pytest.raises(ValueError, match="invalid literal"):
        run_all({"good": (int, ("1",)), "bad": (int, ("x",))}, 2)


def test_trainings_end_with_the_process_that_began_them(tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "waiting.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    ) as parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while any(map(_lives, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(_lives, workers))


def _lives(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
