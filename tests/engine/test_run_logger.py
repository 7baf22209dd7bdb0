# SPDX-License-Identifier: BSD-3-Clause
"""The records of a run survive a process that dies while it writes them."""

import errno
import shutil
import threading

import pandas as pd
import pytest
import torch

from dcnv2.engine.config import RunConfig
from dcnv2.engine.evaluation.coco_eval import Scores
from dcnv2.engine.evaluation.evaluate import Result
from dcnv2.engine.runtime.files import write_atomically
from dcnv2.engine.training.board_thread import quiet_board_thread
from dcnv2.engine.training.csv_rows import append_row, drop_rows_after
from dcnv2.engine.training.meter import Meter
from dcnv2.engine.training.run_logger import RunLogger
from dcnv2.engine.visualization.eval_curves import draw_curves, draw_sizes


def test_rows_after_the_checkpoint_and_torn_ones_are_forgotten(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n5,0.125\n10,0.5\n15,0.25\n1")
    drop_rows_after(path, 10)
    assert path.read_text() == "step,loss\n5,0.125\n10,0.5\n"
    drop_rows_after(path, 10)
    append_row(path, {"step": 15, "loss": 0.25})
    assert path.read_text() == "step,loss\n5,0.125\n10,0.5\n15,0.25\n"
    drop_rows_after(path, 0)
    assert path.read_text() == "step,loss\n"
    for torn in ("", "step,lo"):
        path.write_text(torn)
        drop_rows_after(path, 10)
        append_row(path, {"step": 15, "loss": 0.25})
        assert path.read_text() == "step,loss\n15,0.25\n"
    drop_rows_after(tmp_path / "nowhere.csv", 3)


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
    resumed = Meter()
    resumed.load(meter.state())
    assert resumed.take() == {"loss": 2.0, "skipped": 2.0}
    assert resumed.take() == {}


def test_files_are_whole_or_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "page.md"
    write_atomically(path, "first")

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "second")
    assert path.read_text() == "first"


def test_pictures_are_whole_or_as_they_were(tmp_path, monkeypatch, caplog):
    (tmp_path / "pictures").mkdir()
    old = [tmp_path / "pictures" / name for name in ("prediction_0.png", "sizes.png")]
    old += [tmp_path / "pictures" / "precision_recall.png", tmp_path / "curves.csv"]
    for path in old:
        path.write_text("old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    row = pd.DataFrame([{"step": 1, "images": 1, "image_ms": 1.0, "box_AP": 0.5}])
    with RunLogger(tmp_path, 0, RunConfig()) as logger:
        monkeypatch.setattr("os.fsync", fail)
        logger.show_result(Result(row, Scores(), []), [torch.zeros(3, 8, 8, dtype=torch.uint8)])
        for draw in (
            lambda path: draw_curves(Scores().curves, path),
            lambda path: draw_sizes({}, path),
        ):
            with pytest.raises(OSError, match=r"sizes\.png: not written: No space"):
                draw(old[1])
    assert [path.read_text() for path in old] == ["old"] * 4
    assert "prediction_0.png: not written: No space left on device" in caplog.text


def test_curves_end_with_one_warning_and_no_traceback(tmp_path, monkeypatch, caplog):
    """TensorBoard's thread prints a traceback if its file cannot be written, and is dead then."""
    shown = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    with RunLogger(tmp_path, 0, RunConfig()) as logger:
        logger._board.flush()
        shutil.rmtree(tmp_path / "tensorboard")
        for step in range(1, 4):
            logger.log_metrics(step, {"loss": 0.5, "data_ms": 1.0, "step_ms": 1.0})
            if logger._board is not None:
                logger._board.file_writer.event_writer._async_writer._worker.join(5)
    assert not shown
    warnings = [line for line in caplog.messages if line.startswith("tensorboard/")]
    assert len(warnings) == 1
    assert "left out after FileNotFoundError" in warnings[0]


def test_threads_of_others_show_their_traceback(monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    with quiet_board_thread():
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert [failure.exc_type for failure in shown] == [ZeroDivisionError]
