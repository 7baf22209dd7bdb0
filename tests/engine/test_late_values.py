# SPDX-License-Identifier: BSD-3-Clause
"""Updates whose outcome the host learns one step late, as on CUDA; here on a CPU."""

import contextlib
import json
import logging

import pandas as pd
import pytest
import torch
from toy_runs import toy_config, weights_of

from dcnv2.data.shapes import write_shapes
from dcnv2.engine.runtime.datasets import train_batches
from dcnv2.engine.training import optim, step_values
from dcnv2.engine.training.meter import Meter
from dcnv2.engine.training.nonfinite import NonFiniteLossError
from dcnv2.engine.training.trainer import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=6, val=2, size=64)


@pytest.fixture
def late(monkeypatch):
    """Fused optimisers skip updates on a CPU too."""
    monkeypatch.setattr(optim, "FUSED_DEVICES", ("cpu", "cuda"))


@pytest.fixture
def reads(monkeypatch):
    """Notes each time that the host takes numbers from the device."""
    seen, read = [], step_values.HostCopy.read
    monkeypatch.setattr(step_values.HostCopy, "read", lambda copy: seen.append(copy) or read(copy))
    return seen


def _trainer(shapes, tmp_path, name="run", optimizer="sgd", **train):
    changes = {"optim": {"name": optimizer, "lr": 0.01, "warmup_steps": 0}, "train": train}
    trainer = Trainer(toy_config(shapes, tmp_path, name, **changes))
    return trainer, iter(train_batches(trainer.train_set, trainer.config, 0, trainer.comm))


def _spoiled(batch):
    images, targets = batch
    return [image * float("nan") for image in images], targets


def _weights(trainer):
    return [p.detach().clone() for p in trainer.model.parameters()]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_late_and_early_updates_give_the_same_weights(shapes, tmp_path, monkeypatch, optimizer):
    weights, losses = [], []
    for devices in (("cuda",), ("cpu",)):
        monkeypatch.setattr(optim, "FUSED_DEVICES", devices)
        trainer, batches = _trainer(shapes, tmp_path, str(len(weights)), optimizer)
        assert trainer.train_step.late == ("cpu" in devices)
        values = [trainer.train_step.update(*next(batches)) for _ in range(3)]
        trainer.train_step.settle()
        losses.append([v["loss"] for v in values])
        weights.append(_weights(trainer))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_values_are_read_one_step_late(late, reads, shapes, tmp_path):
    trainer, batches = _trainer(shapes, tmp_path)
    meter = Meter()
    for step in range(3):
        meter.add(trainer.train_step.update(*next(batches)))
        assert len(reads) == step
    assert meter.take()["loss"] > 0
    assert len(reads) == 3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_bad_update_never_reaches_the_weights(late, shapes, tmp_path, optimizer):
    """Not even the first, whose momentum has no value before."""
    trainer, batches = _trainer(shapes, tmp_path, optimizer=optimizer, on_nonfinite="skip")
    step, before = trainer.train_step, _weights(trainer)
    values = step.update(*_spoiled(next(batches)))
    assert all(map(torch.equal, _weights(trainer), before))
    assert {**values} == {"lr": 0.01, "skipped": 1.0}
    good = step.update(*next(batches))
    step.settle()
    assert good["skipped"] == 0
    assert step.skips == 0
    after = _weights(trainer)
    assert not all(map(torch.equal, after, before))
    assert all(p.isfinite().all() for p in after)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_the_error_names_the_update_that_it_is_of(late, shapes, tmp_path, where):
    trainer, batches = _trainer(shapes, tmp_path)
    step = trainer.train_step
    step.update(*next(batches))
    before = _weights(trainer)
    batch, text = (
        next(batches),
        "step 1: the gradient's norm is nan, of roi_heads.box",
    )
    if where == "loss":
        batch, text = _spoiled(batch), "step 1: .* is nan, first in image .* as it was loaded"
    with contextlib.ExitStack() as stack:
        if where == "gradient":
            weight = trainer.model.roi_heads.box_predictor.cls_score.weight
            hook = weight.register_hook(lambda gradient: gradient * float("nan"))
            stack.callback(hook.remove)
        values = step.update(*batch)
    assert step.step == 2
    with pytest.raises(NonFiniteLossError, match=text):
        step.update(*next(batches))
    assert step.step == 1
    assert not values, "of an update that did not happen"
    assert step.consistent
    record = tmp_path / "run" / "nonfinite_step_00000001_rank_0.json"
    assert record.exists() == (where == "loss")
    if where == "loss":
        assert json.loads(record.read_text())["image_ids"] == [t["image_id"] for t in batch[1]]
    assert all(map(torch.equal, _weights(trainer), before))


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_a_run_ends_at_the_bad_update_and_saves_those_before(late, shapes, tmp_path, bad):
    """Also if a checkpoint, a row of metrics or the end of the run follows at once."""
    trainer, _ = _trainer(shapes, tmp_path, "bad", steps=4, checkpoint_every=2, log_every=1)
    whole, _ = _trainer(shapes, tmp_path, "good", steps=bad, checkpoint_every=100, log_every=1)
    update = trainer.train_step.update

    def troubled(*batch):
        return update(*(_spoiled(batch) if trainer.step == bad else batch))

    trainer.train_step.update = troubled
    with pytest.raises(NonFiniteLossError, match=f"step {bad}: "):
        trainer.run()
    whole.run()
    saved, wanted = weights_of(trainer.config), weights_of(whole.config)
    assert (tmp_path / "bad" / "checkpoints" / f"step_{bad:08d}").is_dir()
    assert not (tmp_path / "bad" / "checkpoints" / f"step_{bad + 1:08d}").exists()
    assert all(torch.equal(saved[name], value) for name, value in wanted.items())


def test_skipped_updates_are_counted_and_logged(late, shapes, tmp_path, caplog):
    trainer, _ = _trainer(shapes, tmp_path, steps=4, on_nonfinite="skip", log_every=4)
    update = trainer.train_step.update

    def troubled(*batch):
        return update(*(_spoiled(batch) if trainer.step in (1, 3) else batch))

    trainer.train_step.update = troubled
    with caplog.at_level(logging.WARNING, "dcnv2"):
        trainer.run()
    assert "skipped step 1: " in caplog.text
    assert "skipped step 3: " in caplog.text
    assert pd.read_csv(tmp_path / "run" / "metrics.csv")["skipped"].tolist() == [2]


def test_a_resumed_run_is_the_uninterrupted_one(late, shapes, tmp_path):
    whole, _ = _trainer(shapes, tmp_path, "whole", steps=4, checkpoint_every=2)
    whole.run()
    first, _ = _trainer(shapes, tmp_path, "cut", steps=4, checkpoint_every=2)
    update = first.train_step.update

    def dying(*batch):
        if first.step == 3:
            raise OSError("gone")
        return update(*batch)

    first.train_step.update = dying
    with pytest.raises(OSError, match="gone"):
        first.run()
    assert first.step == 3
    Trainer(first.config, resume=True).run()
    saved, wanted = weights_of(first.config), weights_of(whole.config)
    assert all(torch.equal(saved[name], value) for name, value in wanted.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_update_asks_a_gpu_nothing(shapes, tmp_path, optimizer):
    changes = {"optim": {"name": optimizer, "clip_norm": 10.0}, "device": "cuda"}
    trainer = Trainer(toy_config(shapes, tmp_path, **changes, train={"precision": "bfloat16"}))
    batches = iter(train_batches(trainer.train_set, trainer.config, 0, trainer.comm))
    assert trainer.train_step.late
    for step in range(4):
        torch.cuda.set_sync_debug_mode("error" if step > 1 else "default")
        try:
            values = trainer.train_step.update(*next(batches))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    trainer.train_step.settle()
    assert values["loss"] > 0
