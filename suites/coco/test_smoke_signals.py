# SPDX-License-Identifier: BSD-3-Clause
"""The smoke run as a user starts it: ended by signals at any time, continued, and tidy."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from suites.coco import smoke
from suites.reporting.folders import REPORTS, ROOT

# The real command on a tiny data set.
TINY = """
import sys
from suites.coco import smoke, smoke_suite
smoke_suite.TRAIN_IMAGES, smoke_suite.VAL_IMAGES = int(sys.argv[1]), int(sys.argv[2])
sys.exit(smoke.main(sys.argv[3:]))
"""
pytestmark = pytest.mark.slow

WORDS = ["--models", "plain", "dcnv1", "dcnv2", "--jobs=2", "--device=cpu", "--train.log_every=1"]
WORDS += ["--train.batch_size=2", "--eval.batch_size=1"]
LIMIT_S = 10


class Run:
    """A smoke run in a process group of its own, like a command typed in a terminal."""

    def __init__(self, folder, steps, *words, images=(8, 2)):
        self.folder = folder
        command = [sys.executable, "-c", TINY, *map(str, images)]
        command += ["--folder", str(folder), f"--train.steps={steps}", *WORDS, *words]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, condition):
        until = time.monotonic() + 240
        while not condition():
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.monotonic() < until
            time.sleep(0.02)

    def end(self, number, whole_group, times=1):
        """Send the signal; return output, exit status and seconds until all processes are gone."""
        members = _processes(self.folder)
        began = time.monotonic()
        for _ in range(times):
            (os.killpg if whole_group else os.kill)(self.process.pid, number)
            time.sleep(0.1)
        output = self.process.communicate(timeout=60)[0]
        while any(map(_lives, members)):
            time.sleep(0.05)
            assert time.monotonic() - began < 60
        return output, self.process.returncode, time.monotonic() - began


def _processes(folder):
    """Processes of a run: those whose command or working files name its folder, and children."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and any(
                os.readlink(link).startswith(str(folder)) for link in (entry / "fd").iterdir()
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _lives(process):
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _steps(folder, model):
    path = folder / model / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


@pytest.mark.parametrize(
    ("number", "whole_group", "times"),
    [(signal.SIGINT, True, 1), (signal.SIGINT, False, 2), (signal.SIGTERM, False, 1)],
)
def test_a_signal_saves_and_ends_everything_within_ten_seconds(
    number, whole_group, times, tmp_path
):
    folder = tmp_path / "run"
    run = Run(folder, 5000)
    run.wait_for(lambda: _steps(folder, "dcnv2") > 2 and _steps(folder, "dcnv1") > 2)
    output, status, seconds = run.end(number, whole_group, times)
    assert status == 75, output
    assert seconds < LIMIT_S, output
    assert len(re.findall(r"dcnv[12]: saved at step \d+", output)) == 2, output
    assert "plain: not begun" in output
    assert f"The run was stopped by {number.name}." in output
    assert re.search(r"python -m suites.coco.smoke .*--resume\n", output)
    assert not (folder / "plain").exists(), "no further training begins"


def test_a_signal_while_the_data_set_is_generated(tmp_path):
    run = Run(tmp_path / "run", 2, images=(100000, 2))
    run.wait_for(lambda: (tmp_path / "run/shapes/images/train/000001.png").exists())
    output, status, seconds = run.end(signal.SIGINT, True)
    assert (status, seconds < LIMIT_S) == (75, True), output


def test_a_signal_while_evaluating_and_the_run_continues(tmp_path):
    """The continued run has every model, and leaves the checkout as it was."""
    folder = tmp_path / "run"
    run = Run(folder, 2, images=(8, 300))
    run.wait_for(lambda: _steps(folder, "dcnv2") == 2)
    output, status, seconds = run.end(signal.SIGINT, True)
    assert (status, seconds < LIMIT_S) == (75, True), output
    assert "dcnv2: saved at step 2" in output
    before = _reports()
    again = Run(folder, 2, "--resume", images=(8, 2))
    output, _ = again.process.communicate(timeout=400)
    assert again.process.returncode == 1, output  # two steps teach nothing
    assert "plain learned nothing" in output
    assert f"report: {folder / 'coco_smoke.md'}" in output
    assert "box_AP50" in output
    assert len(pd.read_csv(folder / "coco_smoke.csv")) == 3
    assert _reports() == before


def _reports():
    """State of the checkout: `git status` and the bytes of all reports."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "status", "--porcelain"]
    status = subprocess.run(command, capture_output=True, text=True).stdout
    files = sorted(path for path in REPORTS.rglob("*") if path.is_file())
    return status, {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_git_ignores_the_default_folder():
    options, _ = smoke.parse([])
    assert options.report is None
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "check-ignore", "-q"]
    assert subprocess.run([*command, str(options.folder / "coco_smoke.md")]).returncode == 0
