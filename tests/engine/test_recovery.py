# SPDX-License-Identifier: BSD-3-Clause
"""Nothing is lost: killed runs, signals, full disks, damaged checkpoints."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_runs import killed_runs, toy_config, weights_of

from dcnv2 import cli
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import to_yaml
from dcnv2.engine.evaluation import detections
from dcnv2.engine.runtime.checkpoint import best_checkpoint, last_checkpoint, list_checkpoints
from dcnv2.engine.runtime.signals import EXIT_STOPPED, RunStoppedError
from dcnv2.engine.training.train_step import TrainStep
from dcnv2.engine.training.trainer import Trainer, train

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TIMED = ["data_ms", "step_ms", "images_per_s", "data_share", "memory_MiB"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=6, val=2, size=64)


@pytest.fixture(scope="module")
def killed(shapes, tmp_path_factory):
    output = tmp_path_factory.mktemp("killed")
    paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(HERE / "recovery_program.py"), str(shapes), str(output)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((output / "notes.json").read_text()), killed_runs(shapes, output)


def test_twenty_kills_at_random_moments_lose_nothing(killed):
    """The same weights, averages and records to the bit, as if nothing had happened."""
    notes, (whole, cut) = killed
    assert notes["statuses"] == [-signal.SIGKILL] * 20
    assert notes["last"] == 0
    steps = [int(name[5:]) if name else 0 for name in notes["newest"]]
    assert steps == sorted(steps), "a checkpoint that was there is not lost"
    assert len(set(steps)) > 4, "kills fell at different steps"
    for file in ("model.safetensors", "average.safetensors"):
        for name, value in weights_of(whole, file).items():
            assert torch.equal(value, weights_of(cut, file)[name]), name
    tables = [
        pd.read_csv(config.folder / "metrics.csv").drop(columns=TIMED) for config in (whole, cut)
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    results = [pd.read_csv(c.folder / "eval.csv").drop(columns="image_ms") for c in (whole, cut)]
    pd.testing.assert_frame_equal(*results, check_exact=True)


def test_kills_leave_no_rubbish(killed):
    _, (_, cut) = killed
    names = {path.name for path in (cut.folder / "checkpoints").iterdir()}
    best = best_checkpoint(cut.folder / "checkpoints").name
    assert names == {best, "best.json", "step_00000049", "step_00000050"}


@pytest.fixture(scope="module")
def undisturbed(shapes, tmp_path_factory):
    """Weights after four updates on end."""
    output = tmp_path_factory.mktemp("undisturbed")
    config = toy_config(shapes, output, train={"steps": 4, "checkpoint_every": 4})
    train(config)
    return weights_of(config)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_with_a_status_of_its_own(
    shapes, undisturbed, tmp_path, monkeypatch, number
):
    config = toy_config(shapes, tmp_path, train={"steps": 4, "checkpoint_every": 4})
    path = tmp_path / "toy.yaml"
    path.write_text(to_yaml(config))
    update = TrainStep.update

    def signalled(self, *batch):
        if self.step == 2:
            os.kill(os.getpid(), number)
        return update(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "update", signalled)
        assert cli.main(["train", str(path)]) == EXIT_STOPPED
    assert last_checkpoint(config.folder / "checkpoints").name == "step_00000003"
    assert "--resume" in (config.folder / "log.txt").read_text()
    assert cli.main(["train", str(path), "--resume"]) == 0
    for name, value in undisturbed.items():
        assert torch.equal(value, weights_of(config)[name]), name


def test_a_signal_while_evaluating_ends_at_once_and_the_result_is_made_up_for(
    shapes, tmp_path, monkeypatch
):
    config = toy_config(shapes, tmp_path, train={"steps": 4, "eval_every": 2})
    results = detections.coco_results

    def signalled(*operands):
        os.kill(os.getpid(), signal.SIGTERM)
        return results(*operands)

    with monkeypatch.context() as patch:
        patch.setattr(detections, "coco_results", signalled)
        with pytest.raises(RunStoppedError, match="while evaluating step 2, which is saved"):
            train(config)
    assert not (config.folder / "eval.csv").exists()
    train(config, resume=True)
    assert pd.read_csv(config.folder / "eval.csv")["step"].tolist() == [2, 4]


def test_a_full_disk_leaves_the_checkpoint_before(shapes, tmp_path):
    """Files may not grow beyond what the log needs, so writing weights fails as on a full disk."""
    config = toy_config(shapes, tmp_path, train={"steps": 2, "checkpoint_every": 1})
    train(config)
    trainer = Trainer(config, resume=True)
    trainer.train_step.step += 1
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"step_00000003: checkpoint not written: .*[Ff]ile"):
            trainer.checkpointer.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = config.folder / "checkpoints"
    assert last_checkpoint(folder).name == "step_00000002"
    assert not list(folder.glob(".writing_*")), "a full disk gets its room back"
    assert trainer.checkpointer.save().name == "step_00000003"


def test_the_best_checkpoint_outlives_newer_ones(shapes, tmp_path, monkeypatch):
    results = iter([0.2, 0.6, 0.4, 0.5, float("nan")])

    def scored(*_):
        from dcnv2.engine.evaluation.coco_eval import Scores
        from dcnv2.engine.evaluation.evaluate import Result

        numbers = {"mask_AP": next(results)}
        return Result(pd.DataFrame([numbers]), Scores(numbers), [])

    monkeypatch.setattr("dcnv2.engine.evaluation.evaluate.evaluate", scored)
    # Checkpoints are written because results need them, not because they are due.
    options = {"steps": 5, "eval_every": 1, "checkpoint_every": 9, "keep_checkpoints": 1}
    config = toy_config(shapes, tmp_path, train=options)
    train(config)
    folder = config.folder / "checkpoints"
    assert [path.name for path in list_checkpoints(folder)] == ["step_00000002", "step_00000005"]
    assert best_checkpoint(folder).name == "step_00000002"


def test_resume_auto_begins_where_there_is_nothing(shapes, tmp_path):
    config = toy_config(shapes, tmp_path, train={"steps": 1})
    train(config, resume="auto")
    first = weights_of(config)
    train(config, resume="auto")
    for name, value in first.items():
        assert torch.equal(value, weights_of(config)[name]), name
