# SPDX-License-Identifier: BSD-3-Clause
"""A signal to a whole process group ends a run with status 75 after it has saved."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from signals_program import CASES, wait_for_checkpoint
from toy_runs import toy_config

from dcnv2.data.shapes import write_shapes
from dcnv2.data.worker_signals import STOP_SIGNALS
from dcnv2.engine.config import to_yaml
from dcnv2.engine.runtime import signals
from dcnv2.engine.runtime.checkpoint import last_checkpoint
from dcnv2.engine.runtime.signals import EXIT_STOPPED, StopSignals

HERE = Path(__file__).parent
PATHS = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "OMP_NUM_THREADS": "1"}
LAST = 3000  # far more than are done before the signal


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A configuration whose runs are still training when the signal comes, and their folder."""
    output = tmp_path_factory.mktemp("runs")
    root = write_shapes(output / "shapes", train=4, val=1, size=64)
    parts = {"mask": {"enabled": False}, "mimic": {"enabled": False}}
    train = {"steps": LAST, "checkpoint_every": 2, "keep_checkpoints": 1}
    config = output / "toy.yaml"
    config.write_text(to_yaml(toy_config(root, output, model=parts, train=train)))
    return str(config), output


@pytest.fixture(scope="module")
def stopped(long_run):
    """What signals_program.py wrote about each case."""
    config, output = long_run
    words = [sys.executable, str(HERE / "signals_program.py"), config, str(output)]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((output / "notes.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workers", "ranks"), CASES)
def test_a_signal_to_the_process_group_saves_and_exits_75(stopped, number, workers, ranks):
    notes = stopped[f"{number.name}_{workers}_{ranks}"]
    assert notes["statuses"] == [EXIT_STOPPED] * ranks, notes["log"][-2000:]
    step = int(notes["saved"].removeprefix("step_"))
    assert f"stopped after step {step} of {LAST}, which is saved: continue with" in notes["log"]
    assert not notes["left"], "loader processes end with their run"


@pytest.mark.slow
def test_timeout_saves_the_run_of_torchrun(long_run):
    config, output = long_run
    words = ["timeout", "--preserve-status", "-s", "TERM", "600", sys.executable]
    words += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += ["-m", "dcnv2", "train", config, "--name=timeout", "--data.workers=1"]
    with subprocess.Popen(
        words, env=ENVIRONMENT, start_new_session=True, stderr=subprocess.PIPE
    ) as run:
        wait_for_checkpoint(output / "timeout" / "checkpoints")
        run.terminate()  # `timeout` passes it on to the run, and then to its whole process group
        _, errors = run.communicate(timeout=120)
    step = int(last_checkpoint(output / "timeout" / "checkpoints").name.removeprefix("step_"))
    log = (output / "timeout" / "log.txt").read_text()
    assert f"stopped after step {step} of {LAST}, which is saved" in log, errors[-3000:]


@pytest.fixture
def calls():
    """What reaches the handlers that were set before those of a run."""
    calls = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _: calls.append(number))
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_only_a_repeated_ctrl_c_has_its_usual_effect(calls, monkeypatch, number):
    with StopSignals() as stop:
        assert stop.received is None
        for _ in range(3):  # the launcher passes on what the scheduler sent
            signal.raise_signal(number)
        assert (stop.received, calls) == (number, [])
        monkeypatch.setattr(signals, "SAME_REQUEST_S", 0.0)
        time.sleep(0.001)
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        assert calls == [number] * (number == signal.SIGINT)
        assert stop.received == number
    signal.raise_signal(number)
    assert calls == [number] * (1 + (number == signal.SIGINT))


def test_a_second_ctrl_c_waits_until_a_checkpoint_is_written(calls, monkeypatch):
    monkeypatch.setattr(signals, "SAME_REQUEST_S", 0.0)
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.001)
        with stop.shield():
            signal.raise_signal(signal.SIGINT)
            assert calls == []
        assert calls == [signal.SIGINT]


def test_hangups_stay_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)
