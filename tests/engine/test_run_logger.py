# SPDX-License-Identifier: BSD-3-Clause
"""Records that outlive a run that died while writing them, and signals that are heard once."""

import os
import signal

import pandas as pd
import pytest

from dcnv2.engine.runtime.run_folder import write_whole
from dcnv2.engine.runtime.signals import StopSignals
from dcnv2.engine.training.run_logger import Meter, append_row, forget_rows


def test_rows_after_the_checkpoint_and_torn_ones_are_forgotten(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n5,0.125\n10,0.5\n15,0.25\n1")
    forget_rows(path, 10)
    assert path.read_text() == "step,loss\n5,0.125\n10,0.5\n"
    forget_rows(path, 10)
    append_row(path, {"step": 15, "loss": 0.25})
    assert path.read_text() == "step,loss\n5,0.125\n10,0.5\n15,0.25\n"
    forget_rows(path, 0)
    assert path.read_text() == "step,loss\n"
    for torn in ("", "step,lo"):
        path.write_text(torn)
        forget_rows(path, 10)
        append_row(path, {"step": 15, "loss": 0.25})
        assert path.read_text() == "step,loss\n15,0.25\n"
    forget_rows(tmp_path / "nowhere.csv", 3)


def test_columns_may_come_later_or_be_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    append_row(path, {"step": 1, "loss": 0.5})
    append_row(path, {"step": 2})
    append_row(path, {"loss": 0.25, "step": 3, "skipped": 1.0})
    table = pd.read_csv(path)
    assert table.columns.tolist() == ["step", "loss", "skipped"]
    assert table["loss"].fillna(-1).tolist() == [0.5, -1, 0.25]
    assert table["skipped"].fillna(-1).tolist() == [-1, -1, 1]


def test_means_count_the_steps_that_have_a_value():
    meter = Meter()
    for values in ({"loss": 1.0, "skipped": 0.0}, {"skipped": 1.0}, {"loss": 3.0, "skipped": 1.0}):
        meter.add(values)
    meter = Meter(meter.state())
    assert meter.take() == {"loss": 2.0, "skipped": 2.0}
    assert meter.take() == {}


def test_files_are_whole_or_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "page.md"
    write_whole(path, "first")

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "second")
    assert path.read_text() == "first"


def test_a_second_signal_acts_as_ever():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("the handler of before"))
    try:
        with StopSignals() as signals:
            assert signals.received is None
            os.kill(os.getpid(), signal.SIGTERM)
            assert (signals.received, heard) == (signal.SIGTERM, [])
            os.kill(os.getpid(), signal.SIGTERM)
            assert len(heard) == 1
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
