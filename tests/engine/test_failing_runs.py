# SPDX-License-Identifier: BSD-3-Clause
"""A run that fails has saved its work, and nothing that only draws or logs makes it fail."""

import errno
import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.utils.data._utils.worker as loader_worker
from toy_runs import toy_config

from dcnv2 import cli
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.images import BadImageError
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.runtime.checkpoint import best_checkpoint, last_checkpoint
from dcnv2.engine.runtime.files import DamagedFileError
from dcnv2.engine.runtime.run_lock import RunLockedError, lock_folder
from dcnv2.engine.training import checkpointer, hooks, run_logger
from dcnv2.engine.training.hooks import Hook
from dcnv2.engine.training.trainer import Trainer, train

pytestmark = pytest.mark.slow

PARTS = {"mask": {"enabled": False}, "mimic": {"enabled": False}}
FULL_DISK = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=2, val=1, size=64)


@pytest.fixture
def make_config(shapes, tmp_path):
    def make(name="run", data=(), **train_options):
        options = {"steps": 4, "checkpoint_every": 4, "log_every": 1, **train_options}
        changes = {"model": PARTS, "train": options, "data": dict(data)}
        return toy_config(shapes, tmp_path, name, **changes)

    return make


def _raiser(error):
    def fail(*_, **__):
        raise error

    return fail


def _newest(config):
    found = last_checkpoint(config.folder / "checkpoints")
    return found and found.name


class Fail(Hook):
    """Raises after the second update."""

    def __init__(self, error):
        self.error = error

    def after_step(self, trainer, values):
        if trainer.step == 2:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("a hook"), MemoryError(), FULL_DISK])
def test_an_error_in_a_hook_costs_no_work(make_config, error):
    config = make_config()
    trainer = Trainer(config)
    trainer.hooks.append(Fail(error))
    with pytest.raises(type(error)):
        trainer.run()
    assert _newest(config) == "step_00000002"
    text = (config.folder / "log.txt").read_text()
    assert "step 2 of 4 is saved: remove the cause, and continue with --resume" in text
    train(config, resume=True)
    assert pd.read_csv(config.folder / "metrics.csv")["step"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_lost_data_set_costs_no_work(make_config, monkeypatch, workers):
    config = make_config(data={"workers": workers})
    trainer = Trainer(config)
    served = multiprocessing.Value("i", 0)
    item = DetectionDataset.__getitem__

    def lost(self, index):
        with served.get_lock():
            served.value += 1
        if served.value > 4:
            raise BadImageError("data/1.png: no such image")
        return item(self, index)

    monkeypatch.setattr(DetectionDataset, "__getitem__", lost)
    with pytest.raises(BadImageError, match=r"^data/1.png: no such image$"):
        trainer.run()
    assert _newest(config) == "step_00000002"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_crop_larger_than_the_pictures_is_named(make_config, workers):
    crop = [{"RandomCrop": {"size": 10_000}}]
    trainer = Trainer(make_config(data={"workers": workers, "augment": crop}))
    with pytest.raises(ValueError, match=r"^data\.augment: RandomCrop: image \d+: Required crop"):
        trainer.run()


def test_a_backend_that_does_not_exist_is_named(make_config):
    with pytest.raises(ValueError, match=r"train\.compile: wanted one of .*inductor"):
        Trainer(make_config(compile="nosuch"))


def test_a_schedule_that_is_never_reached_is_reported(make_config, caplog):
    config = make_config(steps=1)
    train(config)
    assert "optim.warmup_steps: 2 of train.steps 1: " in caplog.text


def test_a_first_batch_that_cannot_be_loaded_is_named(make_config, monkeypatch):
    config = make_config()
    trainer = Trainer(config)
    monkeypatch.setattr(DetectionDataset, "__getitem__", _raiser(BadImageError("1.png: broken")))
    with pytest.raises(BadImageError, match=r"1\.png: broken"):
        trainer.run()
    assert _newest(config) is None


def test_a_run_beyond_its_last_step_only_evaluates(make_config):
    config = make_config(steps=2)
    train(config)
    config.train.steps = 1
    assert train(config, resume=True)["step"].item() == 2


def test_a_killed_loader_process_costs_no_work(make_config, monkeypatch):
    """As by the kernel when memory runs out."""
    monkeypatch.setattr(loader_worker, "MP_STATUS_CHECK_INTERVAL", 0.1)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    config = make_config(data={"workers": 1}, steps=9, checkpoint_every=9)
    trainer = Trainer(config)

    class Kill(Hook):
        def after_step(self, trainer, values):
            if trainer.step == 2:
                for child in multiprocessing.active_children():
                    os.kill(child.pid, signal.SIGKILL)

    trainer.hooks.append(Kill())
    with pytest.raises(ChildProcessError, match="a loader process was killed, often because"):
        trainer.run()
    assert trainer.step >= 2
    assert _newest(config) == f"step_{trainer.step:08d}"


def test_an_update_that_failed_half_way_is_not_saved(make_config, monkeypatch):
    config = make_config(checkpoint_every=1)
    trainer = Trainer(config)
    step, calls = trainer.train_step.optimizer.step, []

    def half_way(*operands):
        calls.append(None)
        if len(calls) == 3:
            torch.nn.init.zeros_(next(trainer.model.parameters()))
            raise RuntimeError("out of memory")
        return step(*operands)

    monkeypatch.setattr(trainer.train_step.optimizer, "step", half_way)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.run()
    assert _newest(config) == "step_00000002"
    assert "failed within update 3" in (config.folder / "log.txt").read_text()


def test_a_checkpoint_that_cannot_be_written_is_tried_again(make_config, monkeypatch, caplog):
    config = make_config(checkpoint_every=1)
    save, calls = checkpointer.save_checkpoint, []

    def full_at_first(*operands, **options):
        calls.append(None)
        if len(calls) < 3:
            raise FULL_DISK
        return save(*operands, **options)

    monkeypatch.setattr(checkpointer, "save_checkpoint", full_at_first)
    train(config)
    assert "No space left on device; the next checkpoint tries again" in caplog.text
    assert _newest(config) == "step_00000004"


def test_a_last_checkpoint_that_cannot_be_written_fails_after_the_result(make_config, monkeypatch):
    config = make_config(steps=1)
    monkeypatch.setattr(checkpointer, "save_checkpoint", _raiser(FULL_DISK))
    with pytest.raises(OSError, match="No space left"):
        train(config)
    assert pd.read_csv(config.folder / "eval.csv")["step"].tolist() == [1]
    assert not (config.folder / "checkpoints" / "best.json").exists(), "it would name nothing"


RECORDS = {
    "tensorboard/": (run_logger.SummaryWriter, "add_scalar"),
    "metrics.csv": (run_logger, "append_row"),
    "eval.csv": (run_logger, "append_row"),
    "plots of precision": (run_logger, "draw_curves"),
    "pictures of predictions": (hooks, "prediction_sheet"),
    "README.md": (run_logger, "describe"),
    "tables of the evaluation": (run_logger, "results_of_kind"),
    "progress bar": (run_logger.Progress, "update"),
}


def test_a_run_whose_every_record_fails_has_its_result(make_config, monkeypatch, caplog):
    config = make_config(steps=1)
    for module, name in RECORDS.values():
        error = FULL_DISK if name == "append_row" else ZeroDivisionError(name)
        monkeypatch.setattr(module, name, _raiser(error))
    monkeypatch.setattr(run_logger.LogFile, "emit", lambda self, record: self.handleError(record))
    row = train(config)
    assert row["images"].item() == 1
    assert _newest(config) == "step_00000001"
    assert best_checkpoint(config.folder / "checkpoints").name == "step_00000001"
    for name in set(RECORDS) - {"plots of precision"}:  # which follow the tables
        assert f"{name}: left out after" in caplog.text, name


@pytest.mark.parametrize("failing", ["draw_curves", "draw_sizes", "write_picture"])
def test_a_picture_that_cannot_be_drawn_is_left_out(make_config, monkeypatch, caplog, failing):
    config = make_config(steps=1)
    monkeypatch.setattr(run_logger, failing, _raiser(ValueError("no font")))
    train(config)
    assert "left out after ValueError: no font" in caplog.text
    for name in ("eval.csv", "eval_classes.csv", "curves.csv", "detections_bbox.json", "README.md"):
        assert (config.folder / name).stat().st_size, name


def test_a_result_is_recorded_before_anything_is_drawn(make_config, monkeypatch):
    config = make_config(steps=1)
    monkeypatch.setattr(hooks, "prediction_sheet", _raiser(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert pd.read_csv(config.folder / "eval.csv")["step"].tolist() == [1]
    assert best_checkpoint(config.folder / "checkpoints").name == "step_00000001"


@pytest.mark.parametrize("name", ["log.txt", "tensorboard", "pictures", "README.md", "curves.csv"])
def test_a_record_that_cannot_be_opened_is_left_out(make_config, caplog, name):
    config = make_config(steps=1)
    path = config.folder / name
    config.folder.mkdir(parents=True)
    path.write_text("") if name in ("tensorboard", "pictures") else path.mkdir()
    assert train(config) is not None
    assert "left out after" in caplog.text
    assert _newest(config) == "step_00000001"


def test_what_is_logged_before_the_run_begins_is_in_its_log(make_config, shapes, tmp_path):
    first = make_config("first", steps=1)
    train(first)
    other = make_config("second", steps=1, init=str(first.folder))
    other.model.num_classes = 8
    other.model.box.hidden_channels = 8
    train(other)
    text = (other.folder / "log.txt").read_text()
    assert f"{first.folder}: loaded " in text
    assert "tensors are not loaded: " in text
    assert "tensors are not used: " in text
    train(other, resume=True)
    assert "continuing from " in (other.folder / "log.txt").read_text()


def test_two_runs_do_not_share_a_folder(make_config):
    config = make_config(steps=1)
    trainer = Trainer(config)
    config.folder.mkdir(parents=True)
    with lock_folder(config.folder), pytest.raises(RunLockedError, match="is in use by"):
        trainer.run()
    assert not (config.folder / "config.yaml").exists()
    late = Trainer(config)
    trainer.run()
    with pytest.raises(FileExistsError, match="was written by another run"):
        late.run()


def test_errors_of_one_rank_travel_to_the_others():
    error = pickle.loads(pickle.dumps(DamagedFileError(Path("a/best.json"), "empty")))
    assert (str(error), error.path.name) == ("a/best.json: empty", "best.json")


def test_eval_prints_its_result_whatever_cannot_be_written(
    make_config, capsys, tmp_path, monkeypatch
):
    config = make_config(steps=1)
    train(config)
    capsys.readouterr()
    table, out = tmp_path / "row.csv", tmp_path / "out"
    monkeypatch.setattr(pd.DataFrame, "to_csv", _raiser(FULL_DISK))
    assert cli.main(["eval", str(config.folder), f"--csv={table}", f"--out={out}"]) == 1
    printed, err = capsys.readouterr()
    assert "box_AP" in printed
    assert f"{table}: not written: " in err
    assert f"{out}: not written: " in err


def test_eval_refuses_what_cannot_be_written_before_it_computes(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for word in (f"--csv={tmp_path / 'no' / 'row.csv'}", f"--out={tmp_path / 'file' / 'out'}"):
        assert cli.main(["eval", "smoke/dcnv2", word]) == 1
        printed, err = capsys.readouterr()
        assert printed == ""
        assert str(tmp_path) in err
