# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM ends a run of the suites in order: the report of what was run is written."""

import os
import subprocess
import sys

import pytest

from suites.claims import tables
from suites.claims.recorder import Case, Recorder
from suites.reporting.folders import ROOT
from suites.reporting.interruption import INTERRUPTED

CONFTEST = """
from suites.reporting.interruption import end_as_by_ctrl_c

def pytest_configure(config):
    end_as_by_ctrl_c()

def pytest_sessionfinish(session, exitstatus):
    os.kill(os.getpid(), signal.SIGTERM)  # one more, while the report is written
    print(f"report of exit status {exitstatus:d}")
"""
TESTS = """
def test_first():
    pass

def test_killed():
    os.kill(os.getpid(), signal.SIGTERM)

def test_not_run():
    print("too late")
"""


@pytest.mark.slow
def test_sigterm_ends_a_run_in_order(tmp_path):
    (tmp_path / "conftest.py").write_text("import os, signal\n" + CONFTEST)
    (tmp_path / "test_it.py").write_text("import os, signal\n" + TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "report of exit status 2" in done.stdout
    assert "ended by SIGTERM" in done.stdout
    assert "too late" not in done.stdout


def test_reports_of_interrupted_runs_say_so(tmp_path):
    recorder = Recorder()
    recorder.begin("here", Case("holds water", "mine:dcn-cpu", outcome="passed"))
    titles = [
        tables.write_report(recorder, tmp_path, interrupted=flag).read_text().split("\n")[0]
        for flag in (False, True)
    ]
    assert titles == ["# Correctness", f"# Correctness{INTERRUPTED}"]
