# SPDX-License-Identifier: BSD-3-Clause
"""What decides about a training besides its losses: epochs, validation loss, patience, hooks."""

import pandas as pd
import pytest
import torch
from toy_runs import toy_config, weights_of

from dcnv2.data.shapes import write_shapes
from dcnv2.engine.evaluation.coco_eval import Scores
from dcnv2.engine.evaluation.evaluate import Result, evaluate_checkpoint
from dcnv2.engine.evaluation.validation_loss import validation_loss
from dcnv2.engine.runtime.checkpoint import last_checkpoint
from dcnv2.engine.runtime.datasets import train_batches
from dcnv2.engine.training.hooks import Hook
from dcnv2.engine.training.trainer import Trainer, train

pytestmark = pytest.mark.slow

SMALL = {"mimic": {"enabled": False}, "rpn": {"post_nms_test": 5}}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=4, val=3, size=64)


@pytest.fixture
def make_config(shapes, tmp_path):
    def make(name="run", **changes):
        return toy_config(shapes, tmp_path, name, **{"model": SMALL, **changes})

    return make


def test_a_run_of_epochs_resumes_as_one_of_steps(make_config):
    """Two epochs of two steps, also when the run is stopped after the first."""
    whole = make_config("whole", train={"epochs": 2, "eval_epochs": 1})
    row = train(whole)
    assert row["step"].item() == 4
    assert pd.read_csv(whole.folder / "eval.csv")["step"].tolist() == [2, 4]
    cut = make_config("cut", train={"epochs": 1})
    train(cut)
    cut.train.epochs = 2
    assert train(cut, resume=True)["step"].item() == 4
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(cut)[name]), name


def test_the_validation_loss_is_recorded_and_changes_nothing(make_config):
    steps = {"steps": 3, "eval_every": 1, "ema_decay": 0.5}
    plain, lossy = make_config("plain", train=steps), make_config("lossy", train=steps)
    lossy.eval.loss, lossy.eval.batch_size = True, 2
    train(plain)
    row = train(lossy)
    for name, value in weights_of(plain).items():
        assert torch.equal(value, weights_of(lossy)[name]), name
    table = pd.read_csv(lossy.folder / "eval.csv")
    assert table["loss"].notna().all()
    assert table["loss"].nunique() == 3
    terms = [name for name in table if name.startswith("loss_")]
    assert row["loss"].item() == pytest.approx(row[terms].sum(axis=1).item())
    assert f"step 3: loss {row['loss'].item():.4f}" in (lossy.folder / "log.txt").read_text()
    # The batch size and the process do not matter.
    lossy.eval.batch_size = 1
    assert evaluate_checkpoint(lossy).row["loss"].item() == row["loss"].item()


def test_the_validation_loss_leaves_statistics_alone(make_config):
    box = {"convs": [16], "norm": "batch", "hidden_channels": 16}
    config = make_config(model={**SMALL, "box": box}, train={"steps": 1})
    trainer = Trainer(config)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.model.eval()
    validation_loss(trainer.model, trainer.val_set, config, trainer.comm)
    assert not trainer.model.training
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[key]), key


def _scored(values):
    results = iter(values)

    def scored(*_):
        numbers = {"mask_AP": next(results)}
        return Result(pd.DataFrame([numbers]), Scores(numbers), [])

    return scored


def test_patience_ends_a_run_and_outlives_an_interruption(make_config, monkeypatch):
    options = {"steps": 9, "eval_every": 1, "patience": 2, "checkpoint_every": 9}
    config = make_config(train=options)
    score = "dcnv2.engine.evaluation.evaluate.evaluate"

    class Interrupt(Hook):
        def after_step(self, trainer, values):
            if trainer.step == 3:
                raise RuntimeError("stop here")

    monkeypatch.setattr(score, _scored([float("nan"), 0.2, 0.2]))
    trainer = Trainer(config, hooks=[Interrupt()])
    with pytest.raises(RuntimeError, match="stop here"):
        trainer.run()
    monkeypatch.setattr(score, _scored([0.1]))
    row = train(config, resume=True)
    assert row["step"].item() == 4
    text = (config.folder / "log.txt").read_text()
    assert "ended early after step 4 of 9: none of the last 2 evaluations exceeded" in text
    assert "exceeded the 0.2000 of step 2 (train.patience)" in text
    # It has ended: resuming evaluates once more. More patience continues it.
    monkeypatch.setattr(score, _scored([0.1]))
    assert train(config, resume=True)["step"].item() == 4
    config.train.patience, config.train.steps = 3, 5
    monkeypatch.setattr(score, _scored([0.3]))
    assert train(config, resume=True)["step"].item() == 5


class Record(Hook):
    """Keeps what it was called with, and fails where it is asked to."""

    def __init__(self, fail_at=None):
        self.calls, self.fail_at = [], fail_at

    def before_step(self, trainer):
        self.note("before", trainer.step)

    def after_eval(self, trainer, row):
        self.note("eval", row["step"].item())

    def note(self, *call):
        self.calls.append(call)
        if call == self.fail_at:
            raise RuntimeError("a hook")


def test_hooks_from_python_are_called_around_steps_and_evaluations(make_config):
    hook = Record()
    train(make_config(train={"steps": 2, "eval_every": 1}), hooks=[hook])
    assert hook.calls == [("before", 0), ("eval", 1), ("before", 1), ("eval", 2)]


@pytest.mark.parametrize("fail_at", [("before", 1), ("eval", 1)])
def test_a_hook_that_fails_costs_no_work(make_config, fail_at):
    config = make_config(train={"steps": 2, "eval_every": 1, "checkpoint_every": 9})
    with pytest.raises(RuntimeError, match="a hook"):
        train(config, hooks=[Record(fail_at)])
    assert last_checkpoint(config.folder / "checkpoints").name == "step_00000001"
    assert train(config, resume=True)["step"].item() == 2


def test_mixed_images_rare_classes_and_class_weights_train_and_resume(make_config, shapes):
    """All at once, in two runs of two steps and one of four."""
    data = {"mosaic": 0.5, "copy_paste": 0.5, "repeat_threshold": 0.9}
    changes = {"data": {**data, "root": str(shapes), "workers": 0}}
    options = {"class_weights": {"worm": 3.0}, "epochs": 1}
    whole, cut = (make_config(name, train=options, **changes) for name in ("whole", "cut"))
    steps = train(whole)["step"].item()
    assert steps > 2, "rare classes make an epoch longer"
    cut.train.epochs, cut.train.steps = None, 2
    train(cut)
    cut.train.epochs = 1
    train(cut, resume=True)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(cut)[name]), name


def test_class_weights_scale_the_classification_loss(make_config):
    config = make_config()
    trainer = Trainer(config)
    batch = next(iter(train_batches(trainer.train_set, config, 0, trainer.comm)))
    plain = trainer.train_step.update(*batch)
    config.train.class_weights = dict.fromkeys(trainer.train_set.names, 3.0)
    weighted = Trainer(config).train_step.update(*batch)
    assert plain["loss_classifier"] < weighted["loss_classifier"] < 3 * plain["loss_classifier"]
    assert weighted["loss_box_reg"] == plain["loss_box_reg"]
    config.train.class_weights = {"wurm": 2.0}
    with pytest.raises(ValueError, match=r"class_weights: .* no class wurm; did you mean worm\?"):
        Trainer(config)
