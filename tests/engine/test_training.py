# SPDX-License-Identifier: BSD-3-Clause
"""Training on a toy set: records, interruption, resuming, evaluation, prediction, command line."""

import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from toy_runs import toy_config, weights_of

from dcnv2 import __version__, cli
from dcnv2.data.images import BadImageError
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import to_yaml
from dcnv2.engine.evaluation.evaluate import check_categories, evaluate_checkpoint
from dcnv2.engine.inference.predict import predict_files
from dcnv2.engine.runtime.checkpoint import last_checkpoint
from dcnv2.engine.runtime.datasets import train_batches
from dcnv2.engine.runtime.run_folder import CONTENTS
from dcnv2.engine.training.nonfinite import NonFiniteLossError
from dcnv2.engine.training.train_step import TrainStep
from dcnv2.engine.training.trainer import Trainer, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=6, val=3, size=64)


@pytest.fixture
def make_config(shapes, tmp_path):
    def make(name="run", **train_options):
        return toy_config(shapes, tmp_path, name, train=train_options)

    return make


def test_a_run_leaves_its_records(make_config):
    config = make_config(eval_every=2)
    row = train(config)
    folder = config.folder
    for name in CONTENTS:
        assert (folder / name).exists(), name
    assert "box_AP" in (folder / "README.md").read_text()
    assert "torch" in (folder / "environment.txt").read_text()
    assert len(list((folder / "pictures").glob("prediction_*.png"))) == 3
    metrics = pd.read_csv(folder / "metrics.csv")
    assert metrics["step"].tolist() == [3, 4]
    columns = {"loss", "loss_mask", "loss_mimic_cos", "lr", "grad_norm", "skipped", "offset_max"}
    assert columns | {"images_per_s", "data_share", "memory_MiB"} <= set(metrics.columns)
    assert pd.read_csv(folder / "eval.csv")["step"].tolist() == [2, 4]
    assert row["images"].item() == 3
    assert {"box_AP", "mask_AP50"} <= set(row.columns)


@pytest.mark.parametrize("checkpoint_at", [2, 3])
def test_resuming_gives_what_an_uninterrupted_run_gives(make_config, monkeypatch, checkpoint_at):
    whole = make_config("whole")
    train(whole)
    cut = make_config("cut", checkpoint_every=checkpoint_at)
    with monkeypatch.context() as patch:
        update = TrainStep.update

        def interrupted(self, *batch):
            if self.step == 3:
                raise KeyboardInterrupt
            return update(self, *batch)

        patch.setattr(TrainStep, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
    train(cut, resume=True)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(cut)[name]), name
    untimed = ["data_ms", "step_ms", "images_per_s", "data_share", "memory_MiB"]
    tables = [pd.read_csv(c.folder / "metrics.csv").drop(columns=untimed) for c in (whole, cut)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_run_is_not_overwritten_nor_resumed_from_nothing(make_config):
    config = make_config(steps=1)
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume"):
        train(config, resume=True)
    train(config)
    with pytest.raises(FileExistsError, match="resume that run"):
        train(config)


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(make_config, monkeypatch):
    config = make_config()
    trainer = Trainer(config)
    forward = trainer.model.roi_heads.mask_logits
    calls = []

    def poisoned(*operands):
        calls.append(None)
        return forward(*operands) * (float("nan") if len(calls) > 2 else 1.0)

    monkeypatch.setattr(trainer.model.roi_heads, "mask_logits", poisoned)
    with pytest.raises(NonFiniteLossError, match="step 2: loss_mask is nan, first in module"):
        trainer.run()
    assert last_checkpoint(config.folder / "checkpoints").name == "step_00000002"
    assert "loss_mask is nan" in (config.folder / "log.txt").read_text()


def test_loss_weights_scale_the_terms(make_config):
    config = make_config()
    trainer = Trainer(config)
    batch = next(iter(train_batches(trainer.train_set, config, 0, trainer.comm)))
    plain = Trainer(config).train_step.update(*batch)
    config.train.loss_weights.loss_mask = 0.25
    scaled = Trainer(config).train_step.update(*batch)
    assert scaled["loss_mask"] == pytest.approx(0.25 * plain["loss_mask"])
    assert scaled["loss_box_reg"] == plain["loss_box_reg"]
    assert scaled["loss"] == pytest.approx(plain["loss"] - 0.75 * plain["loss_mask"])


def test_another_number_of_categories_than_in_the_checkpoint_is_a_sentence():
    """As after a change of the data set and of model.num_classes."""
    with pytest.raises(ValueError, match=r"has 2 categories, .* trained with 3: cat, dog, cow"):
        check_categories(["cat", "dog"], 2, ["cat", "dog", "cow"])


@pytest.mark.parametrize("change", ["rename", "drop"])
def test_other_categories_are_refused(make_config, shapes, tmp_path, change):
    root = tmp_path / "other"
    shutil.copytree(shapes, root)
    path = root / "annotations" / "instances_val.json"
    document = json.loads(path.read_text())
    if change == "rename":
        document["categories"][2]["name"] = "pear"
        message = "class 3 is pear in this data set, but crescent in training"
    else:
        removed = document["categories"].pop()["id"]
        document["annotations"] = [
            a for a in document["annotations"] if a["category_id"] != removed
        ]
        message = "num_classes is 8, but the data set has 7 categories"
    path.write_text(json.dumps(document))
    config = make_config()
    config.data.root = str(root)
    with pytest.raises(ValueError, match=message):
        Trainer(config)


def test_a_checkpoint_is_evaluated_and_drawn(make_config, shapes, tmp_path):
    config = make_config(steps=1)
    row = train(config)
    result = evaluate_checkpoint(config)
    again, per_class = result.row, result.scores.per_class
    timed = ["image_ms"]
    pd.testing.assert_frame_equal(again.drop(columns=timed), row.drop(columns=timed))
    assert len(per_class) == 16
    config.eval.draw_threshold = 0.0
    image = shapes / "images" / "val" / "000001.png"
    pictures = [path for path, _ in predict_files(config, [image, image], tmp_path / "out")]
    assert [path.name for path in pictures] == ["000001.png", "000001_2.png"]
    assert all(path.stat().st_size for path in pictures)
    (tmp_path / "broken.png").write_bytes(image.read_bytes()[:200])
    for bad, message in [("nowhere.png", "no such image"), ("broken.png", "broken image")]:
        with pytest.raises(BadImageError, match=message):
            list(predict_files(config, [tmp_path / bad], tmp_path / "out"))


def test_proposal_network_is_scored_by_recall(make_config):
    config = make_config(steps=1)
    config.model.task, config.model.mimic.enabled = "proposals", False
    row = train(config)
    assert {"box_AR100", "box_AR1000", "box_ARs"} <= set(row.columns)
    assert not any(column.startswith("mask") for column in row.columns)


def test_command_line_trains_evaluates_and_predicts(make_config, shapes, tmp_path, capsys):
    config = make_config(steps=1)
    text = to_yaml(config)
    (tmp_path / "toy.yaml").write_text(text)
    words = [str(tmp_path / "toy.yaml"), "--name=by_cli"]
    assert cli.main(["train", *words]) == 0
    run = str(tmp_path / "by_cli")
    assert cli.main(["eval", run, "--csv", str(tmp_path / "row.csv")]) == 0
    assert pd.read_csv(tmp_path / "row.csv")["step"].item() == 1
    image = str(shapes / "images" / "val" / "000002.png")
    assert cli.main(["predict", run, image]) == 0
    # A finished run only evaluates again; its result is compared with what is expected.
    capsys.readouterr()
    assert cli.main(["train", run, "--resume", "--eval.expected={box_AP: [2, 0.5]}"]) == 1
    assert "expected 2 within 0.5" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "by_cli" / "eval.csv")["step"].tolist() == [1]
    assert (tmp_path / "by_cli" / "predictions" / "000002.png").is_file()
    capsys.readouterr()
    assert cli.main(["train", run, "--train.stepz=3"]) == 1
    assert "did you mean train.steps?" in capsys.readouterr().err
    assert cli.main(["data", "check", str(shapes), "train", "val"]) == 0


def test_version_and_unknown_commands(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"dcnv2 {__version__}\n"
    for words in (["trian"], []):
        with pytest.raises(SystemExit, match="2"):
            cli.main(words)
        assert re.search("doctor.*train.*export-run", capsys.readouterr().err)


def test_doctor_needs_no_detection_extras(tmp_path):
    """In a process where no extra can be imported, doctor works and train says what to install."""
    program = """
import sys
from dcnv2 import __version__, cli
for name in cli.DETECTION_EXTRA - {"numpy"}:
    sys.modules[name] = None
assert cli.main(["doctor"]) == 0
assert cli.main(["train", "smoke/dcnv2"]) == 1
"""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'pip install -e ".[detection]"' in done.stderr


def test_a_training_whose_augmentation_leaves_no_object_says_so(make_config, caplog):
    config = make_config(steps=1)
    config.eval.draw_threshold = 0.5
    for number, augment in enumerate(([], [{"RandomCrop": {"size": [2, 2]}}])):
        config.name, config.data.augment = f"run{number}", augment
        caplog.clear()
        train(config)
        text = "none of the 2 images since step 0 had an object: check data.augment"
        assert (text in caplog.text) == bool(augment)
